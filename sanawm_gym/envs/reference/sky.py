"""The sky and what stands on the horizon, as a panorama: it turns exactly with the camera.

Rows of the panorama are elevations, columns azimuths (they wrap round). Everything in it is
infinitely far: the sky's gradient, sun glow, clouds, stars, and a skyline of hills, woods or a town
in the haze.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from .light import Light
from .opencv import cv2
from .scene import SceneConfig
from .texture import smoothstep

WIDTH = 1536  # columns for the full circle
LOW, HIGH = -0.05, 1.15  # elevations of the last and first row [rad]
HEIGHT = 256


class Sky:
    """Panorama of one scene."""

    def __init__(self, scene: SceneConfig, light: Light) -> None:
        """Paint the panorama."""
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([scene.seed, 0x5C1])))
        elevation = np.linspace(HIGH, LOW, HEIGHT, dtype=np.float32)[:, None]
        azimuth = np.linspace(-np.pi, np.pi, WIDTH, endpoint=False, dtype=np.float32)[None]
        up = np.clip(elevation / 0.9, 0.0, 1.0) ** 0.65
        image = light.horizon + (light.zenith - light.horizon) * np.repeat(up[..., None], WIDTH, 1)
        image = image.astype(np.float32)
        clearness = {"clear": 1.0, "cloudy": 0.8}.get(scene.weather, 0.0)
        if clearness and scene.hour != "night":
            _add_sun(image, elevation, azimuth, light, scene, clearness)
        if scene.hour == "night" and clearness:
            _add_stars(image, rng)
        self._haze = image[-12:].mean(axis=0).astype(np.float32)
        _add_clouds(image, elevation, light, scene, rng)
        _add_skyline(image, elevation, light, scene, rng)
        image = np.clip(image, 0.0, 1.0)
        self._image = np.concatenate([image, image[:, :2]], axis=1)
        self._image = (self._image * 255.0 + 0.5).astype(np.uint8)

    def look_up(
        self, azimuth: Float64[np.ndarray, "h w"], elevation: Float64[np.ndarray, "h w"]
    ) -> UInt8[np.ndarray, "h w 3"]:
        """Colours along rays of this azimuth and elevation [rad], counter-clockwise from east."""
        u = np.mod((azimuth + np.pi) / (2 * np.pi) * WIDTH, WIDTH).astype(np.float32)
        v = ((HIGH - elevation) / (HIGH - LOW) * (HEIGHT - 1)).astype(np.float32)
        return cv2.remap(self._image, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def haze(self, azimuth: Float64[np.ndarray, "w"]) -> Float32[np.ndarray, "w 3"]:
        """Colour of haze in front of the horizon at these azimuths [rad], RGB in 0-1."""
        column = np.mod((azimuth + np.pi) / (2 * np.pi) * WIDTH, WIDTH).astype(np.int64)
        return np.asarray(self._haze[np.minimum(column, WIDTH - 1)])


def _add_sun(
    image: Float32[np.ndarray, "h w 3"],
    elevation: Float32[np.ndarray, "h 1"],
    azimuth: Float32[np.ndarray, "1 w"],
    light: Light,
    scene: SceneConfig,
    clearness: float,
) -> None:
    """A disc with a glow around it, in place."""
    sun_elevation = float(np.arcsin(light.sun[2]))
    turn = np.abs(np.mod(azimuth - scene.sun_azimuth + np.pi, 2 * np.pi) - np.pi)
    angle = np.sqrt((turn * np.cos(sun_elevation)) ** 2 + (elevation - sun_elevation) ** 2)
    warm = np.array(
        [1.0, 0.78, 0.5] if scene.hour in ("sunset", "dusk") else [1.0, 0.96, 0.88], np.float32
    )
    wide = 0.5 * np.exp(-angle / (0.5 if scene.hour == "sunset" else 0.22))
    disc = 0.0 if scene.hour == "dusk" else 1.0
    amount = np.clip(wide + disc * smoothstep(-0.075, -0.03, -angle), 0.0, 1.0) * clearness
    image += (warm - image) * amount[..., None]


def _add_stars(image: Float32[np.ndarray, "h w 3"], rng: np.random.Generator) -> None:
    """A few soft points of light, in place."""
    stars = np.zeros(image.shape[:2], np.float32)
    rows = rng.integers(0, int(0.8 * HEIGHT), size=160)
    columns = rng.integers(2, WIDTH - 2, size=160)
    stars[rows, columns] = rng.uniform(2.0, 7.0, size=160)
    image += cv2.GaussianBlur(stars, (0, 0), 1.2)[..., None]


def _add_clouds(
    image: Float32[np.ndarray, "h w 3"],
    elevation: Float32[np.ndarray, "h 1"],
    light: Light,
    scene: SceneConfig,
    rng: np.random.Generator,
) -> None:
    """Clouds that flatten and crowd towards the horizon, in place."""
    amount = {"clear": 0.35, "cloudy": 1.0, "overcast": 0.5, "rain": 0.45, "snow": 0.3, "fog": 0.0}
    strength = amount[scene.weather] * (0.15 if scene.hour == "night" else 1.0)
    if strength == 0.0:
        return
    field = np.zeros((HEIGHT, WIDTH), np.float32)
    for columns, rows, weight in ((18, 9, 1.0), (42, 21, 0.6), (96, 48, 0.3)):
        cells = rng.standard_normal((rows, columns)).astype(np.float32)
        cells = np.concatenate([cells[:, -4:], cells, cells[:, :4]], axis=1)
        scale = WIDTH // columns + 1
        wide = cv2.resize(cells, (scale * (columns + 8), 2 * HEIGHT), interpolation=cv2.INTER_CUBIC)
        ring = wide[:, 4 * scale : (4 + columns) * scale]
        field += weight * cv2.resize(ring, (WIDTH, 2 * HEIGHT))[:HEIGHT]
    squeeze = np.clip(elevation, 0.005, None) ** 0.55
    rows = (squeeze / squeeze.max() * (HEIGHT - 1)).astype(np.float32)
    map_u = np.broadcast_to(np.arange(WIDTH, dtype=np.float32)[None], field.shape).copy()
    map_v = np.broadcast_to(rows, field.shape).copy()
    field = np.asarray(cv2.remap(field, map_u, map_v, cv2.INTER_LINEAR), dtype=np.float32)
    overcast = scene.weather in ("overcast", "rain", "snow")
    cover = smoothstep(-0.9, 1.2, field) if overcast else smoothstep(0.15, 1.1, field)
    cover *= smoothstep(0.0, 0.12, np.broadcast_to(elevation, field.shape))
    bright = np.minimum(
        light.horizon * (0.86 if overcast else 1.04) + (0.0 if overcast else 0.06), 1.0
    )
    if scene.hour == "sunset" and not overcast:
        bright = np.array([0.98, 0.62, 0.5])
    image += (bright.astype(np.float32) - image) * (strength * cover)[..., None] * 0.85


def _add_skyline(
    image: Float32[np.ndarray, "h w 3"],
    elevation: Float32[np.ndarray, "h 1"],
    light: Light,
    scene: SceneConfig,
    rng: np.random.Generator,
) -> None:
    """Two ranges of hills or roofs in the haze, in place."""
    heights = {"mountain": 0.2, "forest": 0.085, "country": 0.05, "suburban": 0.05, "highway": 0.05,
               "desert": 0.07, "city": 0.1}  # fmt: skip
    tone = {"desert": (0.6, 0.48, 0.36), "city": (0.42, 0.42, 0.45)}.get(
        scene.kind, (0.22, 0.31, 0.2)
    )
    if scene.ground == "snow":
        tone = (0.66, 0.7, 0.76)
    azimuth = np.linspace(0.0, 2 * np.pi, WIDTH, endpoint=False)
    for layer, haze in enumerate((0.72, 0.5)):
        outline = np.zeros(WIDTH)
        for wave in range(1, 24):
            amplitude = rng.normal() / (wave**0.8 if scene.kind != "forest" else wave**0.45)
            outline += amplitude * np.sin(
                wave * (3 if scene.kind != "mountain" else 1) * azimuth + rng.uniform(0, 6.3)
            )
        outline = (outline - outline.min()) / (outline.max() - outline.min())
        if scene.kind == "city":
            steps = np.repeat(rng.uniform(0.25, 1.0, 128), WIDTH // 128)
            outline = steps * (0.5 + 0.5 * outline)
        top = heights[scene.kind] * (1.0 - 0.35 * layer) * (0.25 + 0.75 * outline)
        color = np.array(tone) * light.ground
        hidden = 1.0 - (1.0 - haze) * np.exp(-120.0 * light.extinction)
        color = color + (light.horizon - color) * hidden
        inside = np.clip(
            (top[None].astype(np.float32) - elevation) * HEIGHT / (HIGH - LOW) + 0.5, 0.0, 1.0
        )
        image += (color.astype(np.float32) - image) * inside[..., None]
