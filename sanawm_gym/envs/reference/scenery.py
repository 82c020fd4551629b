"""Where things stand along the road: trees, houses, signs, posts, lamps and barriers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from .meshes import Mesh, block, house, lamp, post, sign, strip
from .road import Road
from .scene import SceneConfig
from .trees import KINDS, VARIANTS, TreeTemplates, leaf_colors

Place = tuple[float, float, float, Mesh]


@dataclass(frozen=True, eq=False)
class Trees:
    """Billboards, sorted by their place along the road.

    Attributes:
        s: Place along the road [m].
        position: World x, y [m].
        height: Height [m].
        shape: Row of the template.
        colors: Colour of the leaves.
    """

    s: Float64[np.ndarray, "n"]
    position: Float64[np.ndarray, "n 2"]
    height: Float64[np.ndarray, "n"]
    shape: Int64[np.ndarray, "n"]
    colors: Float64[np.ndarray, "n 3"]


@dataclass(frozen=True, eq=False)
class Solids:
    """Quads of all fixed objects in the world frame, sorted by their object's place along the road.

    Attributes:
        s: Place of the object of every quad along the road [m].
        anchor: World x, y of that object [m].
        mesh: The quads.
    """

    s: Float64[np.ndarray, "m"]
    anchor: Float64[np.ndarray, "m 2"]
    mesh: Mesh


class Scenery:
    """Everything fixed that stands beside one road."""

    def __init__(self, scene: SceneConfig, road: Road) -> None:
        """Place all objects."""
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([scene.seed, 0x5CE2])))
        self._scene, self._road, self._rng = scene, road, rng
        self.templates = TreeTemplates(rng)
        self.barrier_offset = scene.shoulder_width + float(rng.uniform(0.9, 1.6))
        self._taken: list[tuple[float, float, float, float]] = []
        places = [*self._buildings(), *self._furniture(), *self._barriers()]
        self.solids = _gather(places)
        self.trees = self._trees()

    def _at(self, s: float, side: int, offset: float) -> tuple[float, float, float]:
        """World x, y and road heading at an offset [m] beyond the left (+1) or right (-1) edge."""
        edge = self._road.left_edge(s) if side > 0 else self._road.right_edge(s)
        x, y, heading = self._road.point(s, float(edge) + side * offset)
        return float(x), float(y), float(heading)

    def _is_clear(
        self, x: Float64[np.ndarray, "n"], y: Float64[np.ndarray, "n"], margin: float
    ) -> Bool[np.ndarray, "n"]:
        """Whether points lie at least a margin [m] off the road (bends come back near)."""
        return np.asarray(self._road.outside(x, y) >= margin)

    def _buildings(self) -> list[Place]:
        """Houses or town blocks in a row along both sides, their fronts to the road."""
        scene, rng, places = self._scene, self._rng, []
        if scene.buildings < 0.02:
            return []
        town = scene.kind == "city"
        for side in (-1, 1):
            s = float(rng.uniform(-20.0, 20.0))
            while s < self._road.length:
                gap = rng.uniform(18.0, 26.0) if town else rng.uniform(17.0, 30.0)
                s += gap / max(scene.buildings, 0.05) ** 0.8
                offset = scene.shoulder_width + (
                    rng.uniform(11.0, 15.0) if town else rng.uniform(11.0, 22.0)
                )
                x, y, heading = self._at(s, side, offset)
                mesh = (
                    block(rng, lit=scene.is_dark)
                    if town and rng.random() < 0.8
                    else house(rng, lit=scene.is_dark, snow=scene.ground == "snow")
                )
                reach = float(np.hypot(mesh.vertices[..., 0], mesh.vertices[..., 1]).max())
                crowded = any(
                    np.hypot(x - a, y - b) < 0.8 * (reach + r) for a, b, _, r in self._taken
                )
                near = not self._is_clear(np.array([x]), np.array([y]), 0.55 * reach + 2.5)[0]
                if crowded or near:
                    continue
                self._taken.append((x, y, s, reach))
                yaw = heading if side > 0 else heading + np.pi
                places.append((s, x, y, mesh.placed(x, y, yaw + rng.normal(0, 0.04))))
        return places

    def _furniture(self) -> list[Place]:
        """Delineator posts, signs, street lamps and poles for wires."""
        scene, rng, road, places = self._scene, self._rng, self._road, []
        near = scene.shoulder_width + 0.6

        def put(s: float, side: int, offset: float, mesh: Mesh, turn: float = 0.0) -> None:
            x, y, heading = self._at(s, side, offset)
            if self._is_clear(np.array([x]), np.array([y]), min(offset, near) - 0.1)[0]:
                places.append((s, x, y, mesh.placed(x, y, heading + turn)))

        rural = scene.kind in ("country", "forest", "mountain", "highway", "desert")
        if rural and rng.random() < 0.35 + 0.6 * scene.furniture:
            spacing = float(rng.choice([20.0, 25.0, 33.0, 50.0]))
            marker = post(1.0, 0.14, (0.92, 0.92, 0.9), band=(0.15, 0.15, 0.16))
            for s in np.arange(5.0, road.length, spacing):
                for side in (-1, 1):
                    put(s, side, near, marker)
        if scene.kind in ("suburban", "city"):
            for s in np.arange(16.0, road.length, 32.0):
                put(s, -1, scene.shoulder_width + 0.4, lamp(lit=scene.is_dark))
                if scene.num_oncoming:
                    put(s + 16.0, 1, scene.shoulder_width + 0.4, lamp(lit=scene.is_dark), np.pi)
        elif rng.random() < 0.4:
            offset = float(rng.uniform(4.5, 9.0))
            side = int(rng.choice([-1, 1]))
            for s in np.arange(10.0, road.length, 40.0):
                wood = (0.42, 0.34, 0.27)
                arm = Mesh.joined([post(8.0, 0.26, wood), post(7.4, 0.05, wood)])
                put(s, side, offset, arm)
        s = 0.0
        while s < road.length:
            s += rng.uniform(35.0, 120.0) / max(scene.furniture, 0.1)
            put(s, -1, near + 0.4, sign(rng))
            if scene.num_oncoming and rng.random() < 0.6:
                put(s + rng.uniform(8, 30), 1, near + 0.4, sign(rng), np.pi)
        return places

    def _barriers(self) -> list[Place]:
        """Guard rails, hedges or walls, on one or both sides for stretches of the road."""
        scene, rng, road, places = self._scene, self._rng, self._road, []
        if scene.barrier == "none":
            return []
        hedge = (0.22, 0.34, 0.15) if scene.ground != "snow" else (0.45, 0.52, 0.46)
        looks = {
            "rail": (0.42, 0.74, 0.1, (0.7, 0.71, 0.72)),
            "hedge": (0.0, float(rng.uniform(0.9, 1.6)), 0.9, hedge),
            "wall": (0.0, float(rng.uniform(0.75, 1.1)), 0.35, (0.66, 0.63, 0.58)),
        }
        low, high, thickness, color = looks[scene.barrier]
        for side in (-1, 1):
            s = float(rng.uniform(0.0, 60.0)) if rng.random() < 0.7 else 0.0
            while s < road.length:
                end = min(s + rng.uniform(60.0, 260.0), road.length)
                along = np.arange(s, end, 4.0)
                spots = [self._at(a, side, self.barrier_offset) for a in along]
                points = np.array([[x, y] for x, y, _ in spots])
                if len(points) > 1 and self._is_clear(points[:, 0], points[:, 1], 0.5).all():
                    pieces = strip(points, low, high, thickness, color)
                    for a, (x, y), piece in zip(along[:-1], points[:-1], pieces, strict=True):
                        if scene.barrier == "rail":
                            stake = post(low + 0.1, 0.1, (0.5, 0.5, 0.51)).placed(
                                float(x), float(y), 0.0
                            )
                            piece = Mesh.joined([stake, piece])
                        places.append((float(a), float(x), float(y), piece))
                s = end + rng.uniform(20.0, 150.0)
        return places

    def _trees(self) -> Trees:
        """Trees in loose crowds, sometimes an avenue of equal distances."""
        scene, rng, road = self._scene, self._rng, self._road
        per_metre = 0.36 * scene.trees**1.3
        count = int(rng.poisson(2 * per_metre * road.length))
        side = rng.choice([-1.0, 1.0], size=count)
        s = rng.uniform(-10.0, road.length, size=count)
        offset = (
            scene.shoulder_width
            + 4.5
            + rng.exponential(9.0 if scene.kind == "forest" else 14.0, size=count)
        )
        favoured = {
            "country": (4, 1, 1, 3, 0.3, 0), "forest": (4, 3, 0.3, 1, 0.3, 0),
            "suburban": (4, 1, 1, 3, 0.1, 0),
            "highway": (3, 2, 1, 4, 0.3, 0), "mountain": (1, 6, 0, 2, 0.4, 0),
            "desert": (0, 0, 0, 4, 1, 2),
            "city": (5, 0.4, 1, 2, 0.1, 0.5),
        }[scene.kind]  # fmt: skip
        weights = np.array(favoured, dtype=np.float64) ** rng.uniform(0.6, 2.5)
        kind = rng.choice(len(KINDS), size=count, p=weights / weights.sum())
        if scene.kind in ("country", "suburban", "city") and rng.random() < 0.3:
            spacing = float(rng.uniform(9.0, 18.0))
            row = np.repeat(np.arange(0.0, road.length, spacing), 2)
            s = np.concatenate([s, row])
            side = np.concatenate([side, np.tile([-1.0, 1.0], len(row) // 2)])
            offset = np.concatenate([offset, np.full(len(row), scene.shoulder_width + 4.5)])
            kind = np.concatenate([kind, np.full(len(row), rng.choice([0, 2]))])
        sizes = np.array([[5, 10], [6, 15], [9, 16], [0.9, 2.2], [4, 9], [5, 9]])
        height = rng.uniform(sizes[kind, 0], sizes[kind, 1])
        edge = np.where(side > 0, road.left_edge(s), road.right_edge(s))
        x, y, _ = road.point(s, edge + side * offset)
        keep = self._is_clear(x, y, scene.shoulder_width + 3.8)
        for bx, by, _, reach in self._taken:
            keep &= np.hypot(x - bx, y - by) > reach + 1.0
        order = np.flatnonzero(keep)[np.argsort(s[keep], kind="stable")]
        shape = kind * VARIANTS + rng.integers(VARIANTS, size=len(kind))
        colors = leaf_colors(rng, kind, scene.ground)
        position = np.stack([x, y], axis=1)
        return Trees(s[order], position[order], height[order], shape[order], colors[order])


def _gather(places: list[Place]) -> Solids:
    """All quads in one list, sorted by the place of their object."""
    if not places:
        empty = Mesh(
            np.zeros((0, 4, 3)),
            np.zeros((0, 3)),
            np.zeros((0, 3)),
            np.zeros(0, np.int64),
            np.zeros(0, bool),
        )
        return Solids(np.zeros(0), np.zeros((0, 2)), empty)
    places = sorted(places, key=lambda place: place[0])
    counts = [len(mesh.layers) for *_, mesh in places]
    s = np.repeat([place[0] for place in places], counts)
    anchor = np.repeat(np.array([[x, y] for _, x, y, _ in places]), counts, axis=0)
    return Solids(s, anchor, Mesh.joined([mesh for *_, mesh in places]))
