"""The dashboard drawn over a driven video: a steering wheel that turns and the speed.

Shows what the car was told beside what the world did, so that a viewer can see at a glance whether
the picture turns when the wheel turns. Drawn large and scaled down for smooth edges; both parts are
small patches with transparency, kept in a cache: a frame costs little more than its enlargement.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

# Turns of the hand wheel for one of the road wheels. Passenger cars have 14 to 18; with 10 the full
# lock of 0.5 rad stays below one turn, so the mark on the rim always tells the side.
_STEERING_RATIO = 10.0
# The wheel is drawn anew every so many degrees; finer steps are not seen at this size.
_WHEEL_STEP_DEG = 2
_KMH_PER_MPS = 3.6
_SUPERSAMPLE = 4
_WHITE = (255, 255, 255, 235)
_ACCENT = (255, 190, 60, 255)
_SHADE = (0, 0, 0, 90)


@dataclass(frozen=True, kw_only=True)
class OverlayConfig:
    """How a driven frame is shown."""

    scale: int = 4
    """Enlargement of the frame, 1 to 16; 1 leaves small frames unreadable under the dashboard."""
    dashboard: bool = True
    """Draw the wheel and the speed."""

    def __post_init__(self) -> None:
        """Check the range."""
        if not 1 <= self.scale <= 16:
            raise ValueError(f"scale: got {self.scale}, expected 1 to 16; try 4")


class Overlay:
    """Enlarges frames and draws the dashboard on them."""

    def __init__(self, config: OverlayConfig | None = None) -> None:
        self.config = config if config is not None else OverlayConfig()

    def draw(self, frame: NDArray[np.uint8], *, speed: float, steer: float) -> NDArray[np.uint8]:
        """Return the frame as it is shown.

        Args:
            frame: RGB picture, uint8 (h, w, 3); not changed.
            speed: Speed [m/s].
            steer: Angle of the road wheels [rad], positive to the left.

        Returns:
            RGB picture, uint8 (h * scale, w * scale, 3).
        """
        height, width = frame.shape[:2]
        size = (width * self.config.scale, height * self.config.scale)
        picture = Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC)
        if self.config.dashboard:
            self._draw_dashboard(picture, speed=speed, steer=steer)
        return np.asarray(picture)

    def _draw_dashboard(self, picture: Image.Image, *, speed: float, steer: float) -> None:
        diameter = max(24, round(0.24 * picture.height))
        margin = round(0.05 * picture.height)
        wheel_deg = math.degrees(steer * _STEERING_RATIO)
        step = round(wheel_deg / _WHEEL_STEP_DEG) * _WHEEL_STEP_DEG % 360
        wheel = _wheel_patch(diameter, step)
        top = picture.height - margin - diameter
        picture.paste(wheel, (margin, top), wheel)
        number = _speed_patch(diameter, round(speed * _KMH_PER_MPS))
        picture.paste(number, (margin + diameter + margin // 2, top), number)


@lru_cache(maxsize=256)
def _wheel_patch(diameter: int, angle_deg: int) -> Image.Image:
    """A hand wheel of three spokes, turned counter-clockwise by an angle; RGBA, square."""
    size = diameter * _SUPERSAMPLE
    patch = Image.new("RGBA", (size, size))
    pen = ImageDraw.Draw(patch)
    rim = round(0.09 * size)
    pen.ellipse((0, 0, size - 1, size - 1), fill=_SHADE)
    pen.ellipse((0, 0, size - 1, size - 1), outline=_WHITE, width=rim)
    centre, reach = size / 2, size / 2 - rim / 2
    for spoke_deg in (0.0, 180.0, 270.0):
        angle = math.radians(spoke_deg + angle_deg)
        end = (centre + reach * math.cos(angle), centre - reach * math.sin(angle))
        pen.line(((centre, centre), end), fill=_WHITE, width=round(0.8 * rim))
    hub = 1.4 * rim
    pen.ellipse((centre - hub, centre - hub, centre + hub, centre + hub), fill=_WHITE)
    # The mark at the top of the rim; PIL counts angles clockwise from three o'clock.
    top_deg = 270.0 - angle_deg
    box = (0, 0, size - 1, size - 1)
    pen.arc(box, top_deg - 9, top_deg + 9, fill=_ACCENT, width=rim)
    return patch.resize((diameter, diameter), Image.Resampling.LANCZOS)


@lru_cache(maxsize=256)
def _speed_patch(height: int, kmh: int) -> Image.Image:
    """The speed in km/h over its unit; RGBA, with a dark edge that reads on any sky."""
    size = (round(1.6 * height) * _SUPERSAMPLE, height * _SUPERSAMPLE)
    patch = Image.new("RGBA", size)
    pen = ImageDraw.Draw(patch)
    edge = max(1, size[1] // 40)
    for text, share, baseline in ((str(kmh), 0.58, 0.66), ("km/h", 0.24, 0.95)):
        pen.text(
            (2 * edge, baseline * size[1]),
            text,
            font=ImageFont.load_default(round(share * size[1])),
            anchor="ls",
            fill=_WHITE,
            stroke_width=edge,
            stroke_fill=_SHADE,
        )
    return patch.resize((size[0] // _SUPERSAMPLE, height), Image.Resampling.LANCZOS)
