"""Pictures of a reference world from a camera on a car, with exact pose, intrinsics and depth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from sanawm_gym.camera import CameraRig, Intrinsics
from sanawm_gym.geometry import planar_pose

from .cars import Car, car_mesh
from .figures import Figures, Polygon, fill, plane_depth, project
from .ground import GroundAtlas, GroundShader
from .ground_view import SCALE, GroundView
from .light import Light
from .opencv import cv2
from .road import Road
from .scene import SceneConfig
from .scenery import Scenery
from .sky import Sky

WIDTH, HEIGHT = 128, 72


class Renderer:
    """Draws one world; the same arguments give the same picture."""

    def __init__(
        self,
        scene: SceneConfig,
        road: Road,
        intrinsics: Intrinsics | None = None,
        rig: CameraRig | None = None,
    ) -> None:
        """Build the world around a road.

        Args:
            scene: The world.
            road: Its road.
            intrinsics: Lens and picture size; the scene's field of view at 128 x 72 by default.
            rig: Mount of the camera; the scene's height and pitch by default.
        """
        self.scene, self.road = scene, road
        self.intrinsics = intrinsics or Intrinsics.from_fov(scene.fov_deg, WIDTH, HEIGHT)
        self.rig = rig or CameraRig(z=scene.camera_height, pitch_deg=scene.camera_pitch_deg)
        self.light = Light.of(scene)
        self._vehicle_from_camera = self.rig.vehicle_from_camera()
        atlas = GroundAtlas(GroundShader(scene, road, self.light))
        sky = Sky(scene, self.light)
        self._view = GroundView(
            scene, atlas, sky, self.light, self.intrinsics, self._vehicle_from_camera
        )
        k = self.intrinsics
        focal, center = (SCALE * k.fx, SCALE * k.fy), (SCALE * k.cx, SCALE * k.cy)
        self._figures = Figures(Scenery(scene, road), self.light, focal, center)

    def pose(self, x: float, y: float, yaw: float) -> Float64[np.ndarray, "4 4"]:
        """world_from_camera of a car at (x, y, yaw)."""
        return np.asarray(planar_pose(x, y, yaw) @ self._vehicle_from_camera)

    def render(
        self, x: float, y: float, yaw: float, cars: Sequence[Car] = ()
    ) -> UInt8[np.ndarray, "h w 3"]:
        """The picture from a car.

        Args:
            x: Rear axle, east [m].
            y: Rear axle, north [m].
            yaw: Heading [rad], counter-clockwise from east.
            cars: The other vehicles.
        """
        canvas = self._view.draw(x, y, yaw)
        fill(canvas, self._polygons(x, y, yaw, cars))
        size = (self.intrinsics.width, self.intrinsics.height)
        return cv2.resize(canvas, size, interpolation=cv2.INTER_AREA)

    def depth(
        self, x: float, y: float, yaw: float, cars: Sequence[Car] = ()
    ) -> Float32[np.ndarray, "h w"]:
        """Depth along the optical axis at every pixel centre [m]; inf in the sky."""
        k, pose = self.intrinsics, self.pose(x, y, yaw)
        columns = (np.arange(k.width) + 0.5 - k.cx) / k.fx
        rows = (np.arange(k.height) + 0.5 - k.cy) / k.fy
        grid = np.broadcast_arrays(columns[None], rows[:, None], 1.0)
        rays = np.stack(grid, axis=-1)
        falling = -(rays @ pose[2, :3])
        ground = falling > 1e-6
        depth = np.full((k.height, k.width), np.inf, np.float32)
        depth[ground] = pose[2, 3] / falling[ground]
        for polygon in self._polygons(x, y, yaw, cars):
            if polygon.is_flat:
                continue
            covered = np.zeros((k.height, k.width), np.uint8)
            points = project(polygon.corners, (k.fx, k.fy), (k.cx, k.cy))
            cv2.fillConvexPoly(covered, points, 1, cv2.LINE_8, 4)
            inside = covered.astype(bool)
            if inside.any():
                low, high = polygon.corners[:, 2].min(), polygon.corners[:, 2].max()
                depth[inside] = np.clip(plane_depth(polygon, rays[inside]), low, high)
        return depth

    def _polygons(self, x: float, y: float, yaw: float, cars: Sequence[Car]) -> list[Polygon]:
        """Objects in view, farthest first."""
        s, _ = self.road.locate(x, y)
        meshes = [car_mesh(car, lights_on=self.scene.is_dark) for car in cars]
        return self._figures.polygons(float(s), self.pose(x, y, yaw), meshes)
