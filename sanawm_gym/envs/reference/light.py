"""Colours of the light: sky, haze, sun and headlights of a scene, as RGB in 0-1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from .scene import SceneConfig

RGB = tuple[float, float, float]

# zenith, horizon, light on the ground, share of direct sun, sun elevation [rad]
_CLEAR: dict[str, tuple[RGB, RGB, RGB, float, float]] = {
    "morning": ((0.38, 0.58, 0.86), (0.86, 0.88, 0.9), (0.98, 0.95, 0.88), 0.45, 0.45),
    "noon": ((0.27, 0.5, 0.86), (0.74, 0.85, 0.95), (1.05, 1.04, 1.0), 0.42, 1.1),
    "afternoon": ((0.33, 0.54, 0.84), (0.86, 0.88, 0.88), (1.02, 0.98, 0.9), 0.45, 0.65),
    "sunset": ((0.34, 0.4, 0.62), (0.98, 0.68, 0.42), (0.82, 0.66, 0.54), 0.5, 0.1),
    "dusk": ((0.15, 0.21, 0.4), (0.6, 0.5, 0.54), (0.46, 0.46, 0.55), 0.1, 0.05),
    "night": ((0.03, 0.045, 0.11), (0.12, 0.15, 0.23), (0.17, 0.19, 0.26), 0.1, 0.7),
}


@dataclass(frozen=True)
class Light:
    """Light of one scene.

    Attributes:
        zenith: Sky colour overhead.
        horizon: Sky colour at the horizon, and the colour of haze.
        ground: Light falling on level ground (multiplies every surface colour).
        sun_share: Part of that light that comes from the sun's direction, 0-1.
        sun: Unit vector to the sun.
        headlights: Strength of the ego's headlights, 0 when off.
        extinction: Haze [1/m]: contrast falls by exp(-extinction * distance).
    """

    zenith: Float64[np.ndarray, "3"]
    horizon: Float64[np.ndarray, "3"]
    ground: Float64[np.ndarray, "3"]
    sun_share: float
    sun: Float64[np.ndarray, "3"]
    headlights: float
    extinction: float

    @staticmethod
    def of(scene: SceneConfig) -> Light:
        """The light of a scene's hour and weather."""
        zenith, horizon, ground, share, elevation = _CLEAR[scene.hour]
        colours = [np.array(colour) for colour in (zenith, horizon, ground)]
        greyness = {
            "clear": 0.0,
            "cloudy": 0.15,
            "overcast": 0.85,
            "rain": 0.95,
            "fog": 0.9,
            "snow": 0.9,
        }
        dimming = {
            "clear": 1.0,
            "cloudy": 0.97,
            "overcast": 0.86,
            "rain": 0.68,
            "fog": 0.9,
            "snow": 0.92,
        }
        grey = greyness[scene.weather]
        brightness = colours[1].mean() * dimming[scene.weather]
        flat = np.array([0.97, 1.0, 1.04]) * brightness
        colours[0] = (1 - grey) * colours[0] + grey * flat * 0.88
        colours[1] = (1 - grey) * colours[1] + grey * flat
        ground_grey = np.array([0.98, 1.0, 1.03]) * colours[2].mean()
        colours[2] = ((1 - grey) * colours[2] + grey * ground_grey) * dimming[scene.weather]
        azimuth = scene.sun_azimuth
        sun = np.array(
            [
                np.cos(azimuth) * np.cos(elevation),
                np.sin(azimuth) * np.cos(elevation),
                np.sin(elevation),
            ]
        )
        return Light(
            zenith=colours[0],
            horizon=colours[1],
            ground=colours[2],
            sun_share=share * (1 - grey),
            sun=sun,
            headlights={"night": 1.0, "dusk": 0.45}.get(scene.hour, 0.0),
            extinction=3.0 / scene.visibility,
        )

    def shade(self, normals: Float64[np.ndarray, "*b 3"]) -> Float64[np.ndarray, "*b 3"]:
        """Light on surfaces with these unit normals (zero normals: light from all sides)."""
        facing = np.clip(normals @ self.sun, 0.0, 1.0) / max(self.sun[2], 0.35)
        upward = 0.62 + 0.38 * normals[..., 2]  # the ground throws back less than the sky
        amount = (1 - self.sun_share) * upward + self.sun_share * np.minimum(facing, 1.5)
        round_about = 1 - 0.35 * self.sun_share
        amount = np.where(np.any(normals != 0.0, axis=-1), amount, round_about)
        return np.asarray(amount[..., None] * self.ground)


HEADLIGHT = np.array([1.3, 1.05, 0.72])  # white light, told as a share of the blue ambient light


def headlight_gain(
    forward: Float64[np.ndarray, "*b"], left: Float64[np.ndarray, "*b"], strength: float
) -> Float64[np.ndarray, "*b 3"]:
    """Factor that the ego's headlights put on the ambient light, for each colour.

    Args:
        forward: Distance ahead of the camera [m].
        left: Distance to the left [m].
        strength: `Light.headlights`.
    """
    ahead = np.maximum(forward, 0.1)
    beam = np.exp(-((left / (2.2 + 0.24 * ahead)) ** 2)) / (1.0 + (ahead / 24.0) ** 2)
    start = np.clip((ahead - 1.0) / 4.0, 0.0, 1.0)
    return np.asarray(1.0 + (4.2 * strength * beam * start)[..., None] * HEADLIGHT)
