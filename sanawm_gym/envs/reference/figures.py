"""Objects on their way to the picture: culled, turned to the camera, lit, hazed and ordered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int32, UInt8

from .light import Light, headlight_gain
from .meshes import Mesh
from .opencv import cv2
from .scenery import Scenery
from .trees import NUM_VERTICES

NEAR = 0.3  # near clipping distance [m]
FARTHEST = 170.0  # objects beyond are left out [m]
WOOD = np.array([0.27, 0.22, 0.17])
_LIMIT = 4000.0  # picture coordinates are kept within this [px]


@dataclass(frozen=True)
class Polygon:
    """A convex polygon in front of the camera.

    Attributes:
        corners: Corners in the camera frame [m].
        points: The same on the canvas, in sixteenths of a pixel.
        color: RGB in 0-255.
        is_flat: Whether it lies on the ground (shadows), where it has no depth of its own.
    """

    corners: Float64[np.ndarray, "k 3"]
    points: Int32[np.ndarray, "k 2"]
    color: list[float]
    is_flat: bool


class Figures:
    """Draws the objects of one scene."""

    def __init__(
        self,
        scenery: Scenery,
        light: Light,
        focal: tuple[float, float],
        center: tuple[float, float],
    ) -> None:
        """Light all fixed objects once.

        Args:
            scenery: The objects.
            light: The light.
            focal: fx, fy in canvas pixels.
            center: cx, cy in canvas pixels.
        """
        self.scenery, self.light, self.lens = scenery, light, (focal, center)
        self._reach = min(FARTHEST, 2.2 / light.extinction)
        self._solid_colors = lit_colors(scenery.solids.mesh, light)
        shades = np.abs(scenery.templates.shades)
        self._shades, self._is_wood = shades, scenery.templates.shades < 0
        self._tree_light = light.shade(np.zeros(3))

    def polygons(
        self, s: float, world_from_camera: Float64[np.ndarray, "4 4"], cars: list[Mesh]
    ) -> list[Polygon]:
        """Everything in view, farthest first.

        Args:
            s: Place of the camera along the road [m], to find what is near.
            world_from_camera: Camera pose.
            cars: Vehicles in the world frame.
        """
        eye, turn = world_from_camera[:3, 3], world_from_camera[:3, :3]
        quads, quad_colors, quad_keys, layers = self._quads(s, eye, turn, cars)
        trees, tree_colors, tree_keys, parts = self._trees(s, eye, turn)
        keys = np.concatenate([quad_keys, tree_keys])
        all_layers = np.concatenate([layers, parts])
        order = np.lexsort((-keys[:, 1], all_layers, -keys[:, 0])).tolist()
        points = [*self._on_canvas(quads), *self._on_canvas(trees)]
        colors = np.concatenate([quad_colors, tree_colors]).tolist()
        near = np.concatenate([quads[..., 2].min(axis=1), trees[..., 2].min(axis=1)]) < NEAR
        num_quads, found = len(quads), []
        for index in order:
            corners = quads[index] if index < num_quads else trees[index - num_quads]
            drawn = points[index]
            if near[index]:
                corners = clip_near(corners)
                if len(corners) < 3:
                    continue
                drawn = self._on_canvas(corners)
            found.append(Polygon(corners, drawn, colors[index], bool(all_layers[index] < -1)))
        return found

    def _on_canvas(self, corners: Float64[np.ndarray, "*b 3"]) -> Int32[np.ndarray, "*b 2"]:
        """Canvas coordinates of points in the camera frame."""
        return project(corners, *self.lens)

    def _quads(
        self,
        s: float,
        eye: Float64[np.ndarray, "3"],
        turn: Float64[np.ndarray, "3 3"],
        cars: list[Mesh],
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Corners, colours, (object, quad) distances and layers of the solids in view."""
        solids = self.scenery.solids
        low, high = np.searchsorted(solids.s, [s - 25.0, s + self._reach])
        vertices, normals = solids.mesh.vertices[low:high], solids.mesh.normals[low:high]
        colors, layers = self._solid_colors[low:high], solids.mesh.layers[low:high]
        glow, anchor = solids.mesh.glow[low:high], solids.anchor[low:high]
        if cars:
            joined = Mesh.joined(cars)
            places = np.concatenate(
                [np.repeat(c.vertices[:, :, :2].mean((0, 1))[None], len(c.layers), 0) for c in cars]
            )
            vertices = np.concatenate([vertices, joined.vertices])
            normals = np.concatenate([normals, joined.normals])
            colors = np.concatenate([colors, lit_colors(joined, self.light)])
            layers = np.concatenate([layers, joined.layers])
            glow, anchor = np.concatenate([glow, joined.glow]), np.concatenate([anchor, places])
        facing = np.einsum("ij,ij->i", normals, vertices[:, 0] - eye) <= 0.0
        offset = anchor - eye[:2]
        keep = facing & (offset @ turn[:2, 2] > -25.0) & (np.hypot(*offset.T) < self._reach)
        corners = (vertices[keep] - eye) @ turn
        in_front = corners[..., 2].max(axis=1) > NEAR
        inside = (
            np.abs(corners[..., 0]).min(axis=1) < 1.6 * np.abs(corners[..., 2]).max(axis=1) + 1.0
        )
        seen = in_front & inside
        corners, rows = corners[seen], np.flatnonzero(keep)[seen]
        middle = corners.mean(axis=1)
        anchor_depth = offset[rows] @ turn[:2, 2]
        shown = self._through_air(colors[rows], middle, glow[rows])
        keys = np.stack([anchor_depth, np.linalg.norm(middle, axis=1)], axis=1)
        return corners, shown, keys, layers[rows]

    def _trees(
        self, s: float, eye: Float64[np.ndarray, "3"], turn: Float64[np.ndarray, "3 3"]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The same for trees: billboards that face the camera plane."""
        trees = self.scenery.trees
        low, high = np.searchsorted(trees.s, [s - 15.0, s + self._reach])
        offset = np.concatenate(
            [trees.position[low:high] - eye[:2], np.full((high - low, 1), -eye[2])], axis=1
        )
        foot = offset @ turn
        depth = foot[:, 2]
        height = trees.height[low:high]
        keep = (depth > 1.0) & (np.abs(foot[:, 0]) < 1.35 * depth + height) & (depth < self._reach)
        keep &= height / np.maximum(depth, 1.0) * self.lens[0][0] > 3.0
        rows = np.flatnonzero(keep)
        foot, height = foot[rows], height[rows]
        shape = trees.shape[low:high][rows]
        outline = self.scenery.templates.shapes[shape] * height[:, None, None, None]
        up = -turn[2]  # world z in the camera frame, turned to point down the picture
        corners = foot[:, None, None, :] - outline[..., 1:] * up
        corners[..., 0] += outline[..., 0]
        base = np.where(
            self._is_wood[shape][..., None], WOOD, trees.colors[low:high][rows][:, None]
        )
        colors = base * self._shades[shape][..., None] * self._tree_light
        count, num = colors.shape[:2]
        middle = np.repeat(foot, num, axis=0)
        shown = self._through_air(colors.reshape(-1, 3), middle, np.zeros(count * num, bool))
        keys = np.repeat(foot[:, 2:], 2, axis=1).repeat(num, axis=0)
        return (
            corners.reshape(count * num, NUM_VERTICES, 3),
            shown,
            keys,
            np.tile(np.arange(num), count),
        )

    def _through_air(
        self,
        colors: Float64[np.ndarray, "m 3"],
        middle: Float64[np.ndarray, "m 3"],
        glow: np.ndarray,
    ) -> Float64[np.ndarray, "m 3"]:
        """Add headlights and haze; RGB in 0-255."""
        if self.light.headlights > 0.0:
            gain = headlight_gain(middle[:, 2], -middle[:, 0], self.light.headlights)
            colors = colors * np.where(glow[:, None], 1.0, gain)
        clear = np.exp(-self.light.extinction * np.linalg.norm(middle, axis=1))
        clear = np.where(glow, np.sqrt(clear), clear)[:, None]  # lamps pierce the haze
        return np.asarray(
            np.clip(colors * clear + self.light.horizon * (1 - clear), 0.0, 1.0) * 255.0
        )


def lit_colors(mesh: Mesh, light: Light) -> Float64[np.ndarray, "m 3"]:
    """Colours of a mesh under the scene's light, before headlights and haze."""
    lit = mesh.colors * light.shade(mesh.normals)
    return np.where(mesh.glow[:, None], mesh.colors, lit)


def clip_near(corners: Float64[np.ndarray, "k 3"]) -> Float64[np.ndarray, "n 3"]:
    """Cut a convex polygon at the near plane (Sutherland and Hodgman 1974, one plane)."""
    kept = []
    for here, there in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if here[2] >= NEAR:
            kept.append(here)
        if (here[2] >= NEAR) != (there[2] >= NEAR):
            share = (NEAR - here[2]) / (there[2] - here[2])
            kept.append(here + share * (there - here))
    return np.array(kept).reshape(-1, 3)


def fill(canvas: UInt8[np.ndarray, "h w 3"], polygons: list[Polygon]) -> None:
    """Paint polygons in order, smoothing their borders.

    Args:
        canvas: Picture to paint on.
        polygons: Farthest first.
    """
    for polygon in polygons:
        cv2.fillConvexPoly(canvas, polygon.points, polygon.color, cv2.LINE_AA, 4)


def project(
    corners: Float64[np.ndarray, "*b 3"],
    focal: tuple[float, float],
    center: tuple[float, float],
) -> Int32[np.ndarray, "*b 2"]:
    """Picture coordinates in sixteenths of a pixel, pixel centres at whole numbers."""
    depth = np.maximum(corners[..., 2:], 0.5 * NEAR)
    points = corners[..., :2] / depth * focal + (center[0] - 0.5, center[1] - 0.5)
    return np.asarray(np.clip(points, -_LIMIT, _LIMIT) * 16.0 + 0.5, dtype=np.int32)


def plane_depth(polygon: Polygon, rays: Float64[np.ndarray, "*s 3"]) -> Float32[np.ndarray, "*s"]:
    """Depth along z at which rays (x, y, 1) meet a polygon's plane [m]."""
    corners = polygon.corners
    normal = np.zeros(3)
    for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        normal += np.cross(a, b)  # Newell's normal, right for repeated corners too
    return np.asarray((normal @ corners[0]) / (rays @ normal), dtype=np.float32)
