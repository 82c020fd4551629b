"""Colour of the ground: asphalt, paint, shoulders and what lies beyond, at any resolution.

Everything is a function of (s, d) along the road and of (x, y), evaluated on square tiles. Stripes
are box-filtered over one texel, random textures leave out what is finer than three texels: a tile
of any size is free of aliasing.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, UInt8

from .light import Light
from .opencv import cv2
from .paint import Stripe, stripes_of
from .road import Road
from .scene import SceneConfig
from .texture import Noise, smoothstep, wrap

TILE = 128  # texels along one side of a tile
_NODES = 17  # projections onto the road along one side of a tile

_GROUND_COLOURS: dict[str, tuple[tuple[float, float, float], ...]] = {
    "grass": ((0.30, 0.42, 0.17), (0.38, 0.48, 0.22), (0.25, 0.36, 0.15)),
    "dry_grass": ((0.55, 0.50, 0.28), (0.48, 0.46, 0.24), (0.62, 0.55, 0.34)),
    "sand": ((0.76, 0.65, 0.46), (0.70, 0.57, 0.40), (0.82, 0.72, 0.54)),
    "snow": ((0.88, 0.90, 0.94), (0.82, 0.85, 0.91), (0.93, 0.95, 0.97)),
    "field": ((0.36, 0.45, 0.18), (0.68, 0.60, 0.30), (0.40, 0.31, 0.21)),
    "forest_floor": ((0.30, 0.30, 0.16), (0.24, 0.31, 0.14), (0.37, 0.31, 0.19)),
    "pavement": ((0.56, 0.55, 0.52), (0.62, 0.60, 0.56), (0.36, 0.44, 0.22)),
}


class GroundShader:
    """Paints tiles of one world's ground."""

    def __init__(self, scene: SceneConfig, road: Road, light: Light) -> None:
        """Keep the world and draw its fixed choices."""
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([scene.seed, 0x6405])))
        self.scene, self.road, self.light = scene, road, light
        self.noise = Noise(int(rng.integers(2**31)))
        self.colours = np.array(_GROUND_COLOURS[scene.ground], dtype=np.float32)
        spread = 0.02 if scene.ground == "snow" else 0.09
        self.colours *= rng.uniform(1.0 - spread, 1.0 + spread, size=(1, 3)).astype(np.float32)
        if scene.weather == "rain":
            self.colours *= 0.85
        self.row_angle = float(rng.uniform(0, np.pi))
        self.tint = (1.0 + rng.uniform(-0.03, 0.03, size=3)).astype(np.float32)
        self.stripes: list[Stripe] = stripes_of(scene, road, rng)
        self.lamp_spacing = (
            32.0 if scene.hour == "night" and scene.kind in ("suburban", "city") else 0.0
        )
        self._weights = _bilinear_weights()

    def tile(self, column: int, row: int, texel: float) -> UInt8[np.ndarray, "h w 3"]:
        """Paint one tile.

        Args:
            column: Tile index along x; the tile spans [column, column + 1) * TILE * texel metres.
            row: Tile index along y.
            texel: Size of a texel [m].
        """
        side = TILE * texel
        centers = (np.arange(TILE, dtype=np.float32) + 0.5) * texel
        x, y = np.meshgrid(np.float32(column * side) + centers, np.float32(row * side) + centers)
        s, d, extra = self._road_coordinates(column * side, row * side, side)
        road = self.road
        left, right = np.float32(road.base_left), np.float32(road.base_right) - extra
        outside = np.maximum(d - left, right - d)
        color = self._beyond(x, y, s, outside, texel)
        if outside.min() < 6.0 + texel:
            color = self._shoulder(color, x, y, outside, texel)
            on_road = _cover(0.25 - outside, texel)
            asphalt = self._asphalt(x, y, s, d, texel)
            color += (asphalt - color) * on_road[..., None]
            self._paint(color, s, d, extra, x, y, texel)
        color *= self.light.ground.astype(np.float32)
        if self.lamp_spacing:
            color *= self._lamps(s, d)
        return np.asarray((np.clip(color, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8))

    def _road_coordinates(
        self, x: float, y: float, side: float
    ) -> tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]:
        """s, d and width of the extra lane over a tile, projected exactly at a few nodes."""
        nodes = np.linspace(0.0, side, _NODES)
        grid_x, grid_y = np.meshgrid(x + nodes, y + nodes)
        s, d = self.road.project(grid_x, grid_y)
        extra = self.road.extra_width(s)
        origin = s[_NODES // 2, _NODES // 2]
        fields = [(s - origin).astype(np.float32), d.astype(np.float32), extra.astype(np.float32)]
        wide = [self._weights @ field @ self._weights.T for field in fields]
        return wide[0] + np.float32(origin), wide[1], wide[2]

    def _beyond(
        self,
        x: Float32[np.ndarray, "h w"],
        y: Float32[np.ndarray, "h w"],
        s: Float32[np.ndarray, "h w"],
        outside: Float32[np.ndarray, "h w"],
        texel: float,
    ) -> Float32[np.ndarray, "h w 3"]:
        """Meadows, fields, sand and snow."""
        large = self.noise(x, y, 14.0)
        mix = smoothstep(-0.7, 0.9, large)[..., None]
        color = self.colours[0] + (self.colours[1] - self.colours[0]) * mix
        if self.scene.ground == "field":
            plot = self.noise(x, y, 38.0, 9.0)
            away = smoothstep(5.0, 6.5, outside)
            wheat = smoothstep(0.35, 0.5, plot) * away
            soil = smoothstep(0.35, 0.5, -plot) * away
            color = self.colours[0] * (0.92 + 0.08 * mix)
            color = color + (self.colours[1] - color) * wheat[..., None]
            color = color + (self.colours[2] - color) * soil[..., None]
            if texel < 0.6:
                phase = (x * np.cos(self.row_angle) + y * np.sin(self.row_angle)) * np.float32(
                    2 * np.pi / 2.2
                )
                fade = 0.09 * (1.0 - smoothstep(0.2, 0.6, np.float32(texel)))
                color *= (1.0 + fade * np.sin(phase) * away)[..., None]
        else:
            spots = smoothstep(0.5, 1.6, self.noise(x, y, 5.0, 3.0))[..., None]
            color = color + (self.colours[2] - color) * (0.7 * spots)
        if texel < 0.5:
            color *= (1.0 + 0.045 * self.noise(x, y, 1.3, 5.0))[..., None]
        if texel < 0.1:
            color *= (1.0 + 0.04 * self.noise(x, y, 0.33, 7.0))[..., None]
        return np.asarray(color.astype(np.float32))

    def _shoulder(
        self,
        color: Float32[np.ndarray, "h w 3"],
        x: Float32[np.ndarray, "h w"],
        y: Float32[np.ndarray, "h w"],
        outside: Float32[np.ndarray, "h w"],
        texel: float,
    ) -> Float32[np.ndarray, "h w 3"]:
        """The strip beside the lanes: hard shoulder, gravel or kerb and pavement."""
        scene = self.scene
        if scene.shoulder == "none":
            return color
        width = np.float32(scene.shoulder_width)
        if scene.shoulder == "kerb":
            walk = np.array([0.60, 0.58, 0.55], np.float32) * (0.75 if scene.is_wet else 1.0)
            kerb = np.array([0.72, 0.71, 0.69], np.float32) * (0.8 if scene.is_wet else 1.0)
            color += (walk - color) * _cover(width + 0.4 - outside, texel)[..., None]
            return np.asarray(color + (kerb - color) * _cover(0.45 - outside, texel)[..., None])
        if scene.shoulder == "paved":
            paved = self._asphalt(x, y, x, y, texel) * 1.06
            return np.asarray(color + (paved - color) * _cover(width - outside, texel)[..., None])
        gravel = np.array([0.55, 0.51, 0.45], np.float32) * (0.75 if scene.is_wet else 1.0)
        if scene.ground == "snow":
            gravel = np.array([0.72, 0.72, 0.74], np.float32)
        wobble = 0.25 * self.noise(x, y, 1.6, 11.0)
        soft = smoothstep(0.0, 0.5, width + wobble - outside)
        return np.asarray(color + (gravel - color) * (0.85 * soft)[..., None])

    def _asphalt(
        self,
        x: Float32[np.ndarray, "h w"],
        y: Float32[np.ndarray, "h w"],
        s: Float32[np.ndarray, "h w"],
        d: Float32[np.ndarray, "h w"],
        texel: float,
    ) -> Float32[np.ndarray, "h w 3"]:
        """Grey with streaks along the road, patches and wheel tracks."""
        scene = self.scene
        rough = np.float32(scene.asphalt_noise)
        tone = np.float32(scene.asphalt_tone * (0.68 if scene.is_wet else 1.0))
        value = 1.0 + 0.05 * rough * self.noise(s, d * 9.0, 9.0, 2.0)
        patch = smoothstep(0.9, 1.05, self.noise(s * 0.7, d, 4.2, 21.0))
        value -= 0.1 * rough * patch
        if texel < 0.2:
            value += 0.035 * rough * self.noise(x, y, 0.45, 4.0)
        for lane in (*self.road.forward_lanes, *self.road.oncoming_lanes):
            from_track = np.abs(np.abs(d - np.float32(lane.center)) - 0.8)
            value -= (0.06 if not scene.is_wet else -0.07) * np.clip(
                1.0 - from_track / 0.45, 0.0, 1.0
            )
        if scene.ground == "snow" and scene.weather == "snow":
            slush = smoothstep(-0.6, 1.6, self.noise(s * 0.3, d, 1.5, 31.0))
            value += 0.35 * slush
        return np.asarray(((tone * value)[..., None] * self.tint).astype(np.float32))

    def _paint(
        self,
        color: Float32[np.ndarray, "h w 3"],
        s: Float32[np.ndarray, "h w"],
        d: Float32[np.ndarray, "h w"],
        extra: Float32[np.ndarray, "h w"],
        x: Float32[np.ndarray, "h w"],
        y: Float32[np.ndarray, "h w"],
        texel: float,
    ) -> None:
        """Lay the road markings over the asphalt, in place."""
        wear = np.float32(self.scene.wear)
        keep = np.clip(1.0 - wear * smoothstep(-1.0, 1.5, self.noise(x, y, 0.7, 17.0)), 0.0, 1.0)
        for stripe in self.stripes:
            cover = stripe.cover(s, d, extra, texel)
            if cover is not None:
                color += (stripe.color * self.tint - color) * (0.94 * cover * keep)[..., None]

    def _lamps(
        self, s: Float32[np.ndarray, "h w"], d: Float32[np.ndarray, "h w"]
    ) -> Float32[np.ndarray, "h w 3"]:
        """Warm pools of light under street lamps (a factor on the ambient light)."""
        along = np.mod(s, self.lamp_spacing) - self.lamp_spacing / 2
        across = d - np.float32(self.road.base_right - 1.0)
        pool = np.exp(-(along**2 + across**2) / 60.0)[..., None]
        return np.asarray(1.0 + pool * np.array([3.4, 2.5, 1.4], np.float32))


def _cover(inside: Float32[np.ndarray, "h w"], texel: float) -> Float32[np.ndarray, "h w"]:
    """Share of a texel that lies inside a border, from its signed distance [m]."""
    return np.asarray(np.clip(inside / np.float32(max(texel, 0.03)) + 0.5, 0.0, 1.0))


def _bilinear_weights() -> Float32[np.ndarray, "tile nodes"]:
    """Weights that read texel centres from nodes spread over the tile's side, ends included."""
    position = (np.arange(TILE) + 0.5) / TILE * (_NODES - 1)
    weights = np.clip(1.0 - np.abs(position[:, None] - np.arange(_NODES)[None]), 0.0, 1.0)
    return np.asarray(weights.astype(np.float32))


class GroundAtlas:
    """Tiles at six resolutions, each a torus around the camera, painted when first seen."""

    NUM_LEVELS = 6
    FINEST = 0.04  # texel of level 0 [m]
    TORUS = 8  # tiles along one side of a level's torus

    def __init__(self, shader: GroundShader) -> None:
        """Start with nothing painted."""
        side = self.TORUS * TILE
        self.shader = shader
        self.levels = [np.zeros((side, side, 3), np.uint8) for _ in range(self.NUM_LEVELS)]
        self._held: list[dict[tuple[int, int], tuple[int, int]]] = [
            {} for _ in range(self.NUM_LEVELS)
        ]

    def texel(self, level: int) -> float:
        """Texel of a level [m]."""
        return self.FINEST * 2.0**level

    def look_up(
        self, level: int, x: Float32[np.ndarray, "h w"], y: Float32[np.ndarray, "h w"]
    ) -> UInt8[np.ndarray, "h w 3"]:
        """Colours at world points [m] within one torus (41 m at level 0, twice that a level)."""
        per_metre = np.float32(1.0 / self.texel(level))
        u, v = x * per_metre, y * per_metre
        self._paint_missing(level, u, v)
        side = self.TORUS * TILE
        half = np.float32(0.5)
        return cv2.remap(
            self.levels[level],
            wrap(u - half, side),
            wrap(v - half, side),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_WRAP,
        )

    def _paint_missing(
        self, level: int, u: Float32[np.ndarray, "h w"], v: Float32[np.ndarray, "h w"]
    ) -> None:
        """Paint the tiles that hold these points and are not in the torus."""
        every = 6 if level < 2 else 1  # far rows lie many texels apart
        coarse_u = np.concatenate(
            [u[::every, ::12].ravel(), u[-1, ::12], u[::every, -1], u[-1:, -1]]
        )
        coarse_v = np.concatenate(
            [v[::every, ::12].ravel(), v[-1, ::12], v[::every, -1], v[-1:, -1]]
        )
        half = np.array([-20.0, 20.0], np.float32)[:, None]  # neighbours that bilinear reads touch
        columns = np.floor((coarse_u[None] + half) / TILE).astype(np.int64)
        rows = np.floor((coarse_v[None] + half) / TILE).astype(np.int64)
        codes = np.unique((columns[:, None] + 2**20) * 2**22 + rows[None] + 2**20)
        held = self._held[level]
        for code in codes.tolist():
            column, row = code // 2**22 - 2**20, code % 2**22 - 2**20
            slot = (column % self.TORUS, row % self.TORUS)
            if held.get(slot) == (column, row):
                continue
            held[slot] = (column, row)
            top, left = slot[1] * TILE, slot[0] * TILE
            tile = self.shader.tile(column, row, self.texel(level))
            self.levels[level][top : top + TILE, left : left + TILE] = tile
