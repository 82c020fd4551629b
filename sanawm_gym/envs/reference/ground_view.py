"""The ground and the sky as one camera sees them: ray tables made once, looked up every frame.

The camera is fixed to a car that stays upright, so every ray meets the ground at a fixed place of
the car's frame. Rows are sampled four times as finely as the canvas and averaged: far from the
camera a row covers many metres of road but few centimetres across it, and the resolution of the
atlas follows the smaller of the two.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from sanawm_gym.camera import Intrinsics

from .ground import GroundAtlas
from .light import Light, headlight_gain
from .opencv import cv2
from .scene import SceneConfig
from .sky import Sky

SCALE = 2  # canvas pixels a picture pixel, each way
SUBROWS = 4  # rows sampled for one canvas row
FARTHEST = 450.0  # where the ground ends in the haze [m]


class GroundView:
    """Draws ground and sky for a fixed camera on a car."""

    def __init__(
        self,
        scene: SceneConfig,
        atlas: GroundAtlas,
        sky: Sky,
        light: Light,
        intrinsics: Intrinsics,
        vehicle_from_camera: Float64[np.ndarray, "4 4"],
    ) -> None:
        """Make the ray tables."""
        self.atlas, self.sky, self.light = atlas, sky, light
        self.width, self.height = SCALE * intrinsics.width, SCALE * intrinsics.height
        turn, place = vehicle_from_camera[:3, :3], vehicle_from_camera[:3, 3]
        columns = ((np.arange(self.width) + 0.5) / SCALE - intrinsics.cx) / intrinsics.fx
        fine_rows = (np.arange(self.height * SUBROWS) + 0.5) / (SCALE * SUBROWS)
        fine_rows = (fine_rows - intrinsics.cy) / intrinsics.fy
        falling = -(turn[2, 1] * fine_rows + turn[2, 2])
        self.horizon = int(np.argmax(falling > 1e-5)) if (falling > 1e-5).any() else len(falling)
        self.horizon = -(-self.horizon // SUBROWS)  # first canvas row that is all ground
        rows = fine_rows[self.horizon * SUBROWS :]
        depth = np.minimum(place[2] / falling[self.horizon * SUBROWS :], FARTHEST)
        rays = turn[:2, 0, None, None] * columns + turn[:2, 1, None, None] * rows[:, None]
        rays = rays + turn[:2, 2, None, None]
        hits = place[:2, None, None] + depth[None, :, None] * rays
        self._forward, self._left = hits.astype(np.float32)
        footprint = depth / (SCALE * intrinsics.fx)
        levels = np.floor(np.log2(footprint / atlas.FINEST)).clip(0, atlas.NUM_LEVELS - 1)
        starts = np.flatnonzero(np.diff(levels, prepend=-1.0))
        ends = np.append(starts[1:], len(levels))
        self._blocks = [(int(levels[a]), int(a), int(b)) for a, b in zip(starts, ends, strict=True)]
        self._set_up_air(scene, hits, depth, np.hypot(np.hypot(columns, rows[:, None]), 1.0))
        self._set_up_sky(turn, columns, fine_rows)

    def _set_up_air(
        self,
        scene: SceneConfig,
        hits: Float64[np.ndarray, "2 r w"],
        depth: Float64[np.ndarray, "r"],
        stretch: Float64[np.ndarray, "r w"],
    ) -> None:
        """Light and haze of every canvas pixel of the ground."""
        gain = headlight_gain(hits[0], hits[1], self.light.headlights)
        clear = np.exp(-self.light.extinction * depth[:, None] * stretch)
        if scene.is_wet:  # a wet road mirrors the sky at grazing angles
            clear = clear * (1.0 - 0.34 * np.clip(depth / 40.0, 0.0, 1.0))[:, None]

        def shrink(field: Float64[np.ndarray, "r w c"]) -> Float32[np.ndarray, "h w c"]:
            grouped = field.reshape(-1, SUBROWS, *field.shape[1:])
            return np.asarray(grouped.mean(axis=1), dtype=np.float32)

        clear = clear[..., None]
        self._gain, self._haze = shrink(gain * clear), shrink(1.0 - clear)

    def _set_up_sky(
        self,
        turn: Float64[np.ndarray, "3 3"],
        columns: Float64[np.ndarray, "w"],
        fine_rows: Float64[np.ndarray, "r"],
    ) -> None:
        """Azimuth (relative to the car) and elevation of every canvas pixel of the sky."""
        rows = fine_rows.reshape(-1, SUBROWS).mean(axis=1)[: self.horizon]
        rays = turn[:, 0, None, None] * columns + turn[:, 1, None, None] * rows[:, None]
        rays = rays + turn[:, 2, None, None]
        self._azimuth = np.arctan2(rays[1], rays[0])
        self._elevation = np.arctan2(rays[2], np.hypot(rays[0], rays[1]))
        level = turn[:2, 0, None] * columns + turn[:2, 2, None]
        self._column_azimuth = np.arctan2(level[1], level[0])

    def draw(self, x: float, y: float, yaw: float) -> UInt8[np.ndarray, "h w 3"]:
        """The empty scene on a canvas of SCALE times the picture, from a car at (x, y, yaw)."""
        canvas = np.empty((self.height, self.width, 3), np.uint8)
        if self.horizon > 0:
            canvas[: self.horizon] = self.sky.look_up(self._azimuth + yaw, self._elevation)
        cos, sin = np.float32(np.cos(yaw)), np.float32(np.sin(yaw))
        fine = np.empty((*self._forward.shape, 3), np.uint8)
        for level, start, stop in self._blocks:
            forward, left = self._forward[start:stop], self._left[start:stop]
            world_x = np.float32(x) + cos * forward - sin * left
            world_y = np.float32(y) + sin * forward + cos * left
            fine[start:stop] = self.atlas.look_up(level, world_x, world_y)
        rows = self.height - self.horizon
        ground = cv2.resize(fine, (self.width, rows), interpolation=cv2.INTER_AREA)
        haze = self.sky.haze(self._column_azimuth + yaw) * np.float32(255.0)
        lit = ground * self._gain + self._haze * haze[None]
        canvas[self.horizon :] = np.minimum(lit, 255.0).astype(np.uint8)
        return canvas
