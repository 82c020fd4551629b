"""Attributes of a drive as captions tell them: read from a caption, or written into one.

The reference world's captions name the road, the weather, the hour and the traffic, each by one of
a few phrases. An attribute divides the phrases of one of these groups: those that say it, those
that deny it, and those that do neither (dusk is no night, but no day either), which teach and judge
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Attribute:
    """A property that a prompt can ask for."""

    name: str
    yes: tuple[str, ...]
    """Phrases that say it; the first one asks for it."""
    no: tuple[str, ...]
    """Phrases that deny it."""
    neither: tuple[str, ...] = ()
    """Other phrases of the same group."""
    from_the_beginning: bool = False
    """Whether asking replaces the caption up to the phrase (the road and its lanes)."""

    def read(self, caption: str) -> bool | None:
        """Whether a caption says the attribute; None where it leaves it open."""
        if any(phrase in caption for phrase in self.yes):
            return True
        return False if any(phrase in caption for phrase in self.no) else None

    def ask(self, caption: str) -> str:
        """The caption with this attribute said, everything else as far as can be as it was.

        Raises:
            ValueError: If it has no phrase of this group.
        """
        if self.read(caption):
            return caption
        found = [phrase for phrase in (*self.no, *self.neither) if phrase in caption]
        if not found:
            raise ValueError(
                f"got the caption {caption!r}, expected one that tells of {self.name}: with a "
                f"phrase such as {self.no[0]!r}"
            )
        phrase = max(found, key=len)  # "in the evening" also stands in "in the evening sun"
        begin = 0 if self.from_the_beginning else caption.index(phrase)
        return caption[:begin] + self.yes[0] + caption[caption.index(phrase) + len(phrase) :]


NIGHT = Attribute(
    name="night",
    yes=("at night", "in the dark"),
    no=(
        "in the morning", "early in the day", "at noon", "in the middle of the day",
        "in the afternoon", "late in the day",
    ),
    neither=("at sunset", "in the evening sun", "in the evening", "at dusk", "in the twilight"),
)  # fmt: skip
RAIN = Attribute(
    name="rain",
    yes=("in the rain", "in rainy weather", "on a wet day"),
    no=(
        "under a clear sky", "in clear weather", "with a blue sky", "with stars in the sky",
        "with scattered clouds", "under a cloudy sky", "with some clouds", "under a grey sky",
        "in overcast weather",
    ),
    neither=(
        "in fog", "in thick mist", "in foggy weather", "in snowfall", "in snowy weather",
        "on a snowy day",
    ),
)  # fmt: skip
CURVES = Attribute(
    name="curves",
    yes=(
        "a two-lane winding mountain road", "winding", "mountain road", "mountain pass",
        "road through the hills",
    ),
    no=(
        "highway", "motorway", "freeway", "desert road", "road through the desert",
        "road through dry land",
    ),
    neither=(
        "country road", "rural road", "road between fields", "forest road",
        "road through the woods", "suburban street", "residential street", "street between houses",
        "city street", "street in a town", "urban street",
    ),
    from_the_beginning=True,
)  # fmt: skip
TRAFFIC = Attribute(
    name="traffic",
    yes=("heavy traffic", "dense traffic", "many cars"),
    no=("no traffic", "an empty road", "no other cars"),
    neither=(
        "light traffic", "little traffic", "a few cars", "moderate traffic", "some traffic",
        "several cars",
    ),
)  # fmt: skip
ATTRIBUTES = {one.name: one for one in (NIGHT, RAIN, CURVES, TRAFFIC)}


def chosen(names: Sequence[str]) -> list[Attribute]:
    """Attributes by name.

    Raises:
        ValueError: If there is no such attribute.
    """
    unknown = [name for name in names if name not in ATTRIBUTES]
    if unknown:
        raise ValueError(f"got attributes {unknown}, expected some of {list(ATTRIBUTES)}")
    return [ATTRIBUTES[name] for name in names]
