"""Road markings: solid or dashed stripes along the centre line or the right edge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from .road import Road
from .scene import SceneConfig

WHITE = np.array([0.93, 0.93, 0.91], dtype=np.float32)
YELLOW = np.array([0.93, 0.72, 0.18], dtype=np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class Stripe:
    """One line along the road.

    Attributes:
        offset: Middle of the line, metres left of the centre line (without the extra lane).
        width: Width of the line [m].
        color: RGB in 0-1.
        dash: Painted length of a dash [m]; 0 for a solid line.
        gap: Length between dashes [m].
        follows_edge: Whether the line moves out with the extra lane on the right.
        needs_extra: Whether the line is there only where the extra lane is open.
    """

    offset: float
    width: float
    color: Float32[np.ndarray, "3"]
    dash: float = 0.0
    gap: float = 0.0
    follows_edge: bool = False
    needs_extra: bool = False

    def cover(
        self,
        s: Float32[np.ndarray, "h w"],
        d: Float32[np.ndarray, "h w"],
        extra: Float32[np.ndarray, "h w"],
        texel: float,
    ) -> Float32[np.ndarray, "h w"] | None:
        """Share of each texel under paint; None when the line is nowhere near."""
        distance = np.abs(d + extra - self.offset) if self.follows_edge else np.abs(d - self.offset)
        reach = (self.width + texel) / 2
        if distance.min() > reach:
            return None
        t = np.float32(texel)
        cover = np.clip(np.float32(reach) - distance, 0.0, np.float32(min(self.width, texel))) / t
        if self.dash > 0.0:
            period = self.dash + self.gap
            if texel < period / 3:
                from_middle = np.abs(np.mod(s, np.float32(period)) - np.float32(period / 2))
                cover = cover * np.clip((self.dash / 2 - from_middle) / t + 0.5, 0.0, 1.0)
            else:
                cover = cover * np.float32(self.dash / period)
        if self.needs_extra:
            cover = cover * np.clip((extra - 0.6) / 0.4, 0.0, 1.0)
        return np.asarray(cover, dtype=np.float32)


def stripes_of(scene: SceneConfig, road: Road, rng: np.random.Generator) -> list[Stripe]:
    """The markings of a scene: edge lines, lane lines and the line between the directions."""
    width = float(rng.uniform(0.11, 0.18))
    dash, gap = ((3.0, 9.0), (3.0, 6.0), (4.0, 4.0), (6.0, 12.0), (2.0, 4.0))[rng.integers(5)]
    centre_color = YELLOW if scene.centre_colour == "yellow" else WHITE
    left_color = centre_color if scene.num_oncoming == 0 and scene.kind == "highway" else WHITE
    lines: list[Stripe] = []
    if scene.edge_lines:
        inset = 0.12 + width / 2
        lines.append(Stripe(offset=road.base_left - inset, width=width, color=left_color))
        lines.append(
            Stripe(offset=road.base_right + inset, width=width, color=WHITE, follows_edge=True)
        )
    top = road.base_left - scene.num_oncoming * scene.lane_width
    if scene.num_oncoming:
        lines += _centre_lines(scene, top, width, centre_color, dash, gap)
    borders = [top - i * scene.lane_width for i in range(1, scene.num_forward)]
    borders += [top + i * scene.lane_width for i in range(1, scene.num_oncoming)]
    lines += [Stripe(offset=d, width=width, color=WHITE, dash=dash, gap=gap) for d in borders]
    if road.extra_span is not None:
        lines.append(
            Stripe(
                offset=road.base_right,
                width=1.5 * width,
                color=WHITE,
                dash=2.0,
                gap=2.0,
                needs_extra=True,
            )
        )
    return lines


def _centre_lines(
    scene: SceneConfig,
    offset: float,
    width: float,
    color: Float32[np.ndarray, "3"],
    dash: float,
    gap: float,
) -> list[Stripe]:
    """The line or lines between the two directions."""
    if scene.centre_style == "none":
        return []
    if scene.centre_style == "dashed":
        return [Stripe(offset=offset, width=width, color=color, dash=dash, gap=gap)]
    if scene.centre_style == "solid":
        return [Stripe(offset=offset, width=width, color=color)]
    aside = 0.75 * width + 0.03
    return [Stripe(offset=offset + side * aside, width=width, color=color) for side in (-1, 1)]
