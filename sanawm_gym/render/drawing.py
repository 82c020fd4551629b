"""A path through a world, part by part, each kept as soon as it is drawn.

Axes: f raw frames, h and w of the picture.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float64, UInt8

import sanawm_gym
from sanawm_gym.envs.start import Start
from sanawm_gym.paths.camera_path import CameraPath, whole_chunks
from sanawm_gym.paths.envelope import CAR, WALK, departures
from sanawm_gym.worldmodel import WorldModel
from sanawm_gym.worldmodel.ground_warp import MIN_CAMERA_HEIGHT_M
from sanawm_gym.worldmodel.official.layout import is_release
from sanawm_gym.worldmodel.source import find_world

from .parts import PartStore, fingerprint, stamp_of


@runtime_checkable
class PathWorld(Protocol):
    """What is needed of a world to follow a path; see `WorldModel`."""

    width: int
    height: int
    fps: float
    frames_per_step: int

    def start(
        self,
        images: np.ndarray,
        *,
        prompts: list[str],
        intrinsics: Float[np.ndarray, "b 4"],
        seeds: list[int],
        poses: Float[np.ndarray, "b f 4 4"],
    ) -> Any:
        """Begin from a clip, of which a world may take the last picture only."""

    def step(
        self, state: Any, poses: Float[np.ndarray, "b f 4 4"]
    ) -> tuple[UInt8[np.ndarray, "b f h w 3"], Any]:
        """Draw the next chunk."""


class Drawing:
    """One video in the making; `envelope` is the motion that its world was trained on."""

    def __init__(
        self,
        world: PathWorld,
        start: Start,
        path: CameraPath,
        *,
        seed: int,
        part_seconds: float,
        unit_m: float = 1.0,
    ) -> None:
        """Lay out the parts; nothing is drawn yet.

        Args:
            world: Draws.
            start: First picture or clip, fit for the world.
            path: In the world frame of the start, its first pose that of the first picture.
            seed: Of the world's noise.
            part_seconds: About how much video makes a part [s]; at least one chunk.
            unit_m: Length that a network of released weights takes for a metre [m].

        Raises:
            ValueError: If the path leads a camera into the ground of a world that reads it.
        """
        self.world, self.start, self.path, self.seed = world, start, path, seed
        self.envelope = CAR if reads_ground(world) else WALK.in_unit(unit_m)
        self.num_chunks = whole_chunks(path.num_frames, world.frames_per_step)
        # What the last chunk draws beyond the path shows the camera at rest, and is cut off.
        whole = path.held_to(1 + self.num_chunks * world.frames_per_step)
        self.poses = whole.poses[1:].reshape(-1, world.frames_per_step, 4, 4)
        self.chunks_per_part = max(1, round(part_seconds * world.fps / world.frames_per_step))
        self.num_parts = -(-self.num_chunks // self.chunks_per_part)
        if reads_ground(world):
            _check_ground(path.poses)

    def caveats(self) -> list[str]:
        """Where the path asks for what this world does not know, one line for each kind."""
        lines = departures(self.path, self.envelope)
        still_way = self.world.config.still_way if isinstance(self.world, WorldModel) else 0.0
        ends = np.concatenate([self.path.poses[:1], self.poses[:, -1]])[:, :3, 3]
        slow = np.linalg.norm(np.diff(ends, axis=0), axis=1) < still_way * (1 - 1e-9)
        # The last chunk may be slow only because the path ends within it.
        slow = slow[: (self.path.num_frames - 1) // self.world.frames_per_step]
        if slow.any():
            seconds = self.world.frames_per_step / self.world.fps
            lines.append(
                f"the camera moves less than {still_way:g} m in {slow.sum()} of {len(slow)} chunks "
                f"of {seconds:g} s, chunk {int(slow.argmax())} the first, where this world holds "
                "its picture still in part, and does not turn it on the spot"
            )
        return lines

    def run(self, settings: dict[str, str]) -> dict[str, str]:
        """Fingerprints of everything that the pictures depend on.

        Args:
            settings: What the world was opened with.
        """
        start = self.start
        return {
            "package": sanawm_gym.__version__,
            **settings,
            "picture": fingerprint(
                np.ascontiguousarray(start.frames).tobytes(), start.poses.tobytes()
            ),
            "lens": " ".join(f"{number:.6f}" for number in start.intrinsics),
            "prompt": start.prompt,
            "path": fingerprint(self.path.poses.tobytes()),
            "seed": str(self.seed),
            "part": str(self.chunks_per_part),
        }

    def draw(self, store: PartStore) -> Generator[int, None, None]:
        """Draw what is missing.

        Yields:
            Frames of the path that are there, the first picture among them: first of all those
            that were kept, then again after every chunk.
        """
        state = store.state(self._begin())
        done = store.num_kept()
        yield self._frames_after(done * self.chunks_per_part)
        for part in range(done, self.num_parts):
            first = part * self.chunks_per_part
            last = min(first + self.chunks_per_part, self.num_chunks) - 1
            drawn = []
            for chunk in range(first, last + 1):
                frames, state = self.world.step(state, self.poses[None, chunk])
                drawn.append(frames[0])
                if chunk == last:
                    state = store.keep(part, np.concatenate(drawn), state)
                yield self._frames_after(chunk + 1)

    def frames(self, store: PartStore) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        """All pictures of the path, once they are kept."""
        yield self.start.frames[-1]
        left = self.path.num_frames - 1
        for part in range(self.num_parts):
            pictures = store.frames(part)[:left]
            left -= len(pictures)
            yield from pictures

    def _frames_after(self, num_chunks: int) -> int:
        return min(1 + num_chunks * self.world.frames_per_step, self.path.num_frames)

    def _begin(self) -> Any:
        start = self.start
        return self.world.start(
            start.frames[None],
            prompts=[start.prompt],
            intrinsics=start.intrinsics[None],
            seeds=[self.seed],
            poses=start.poses[None],
        )


def reads_ground(world: PathWorld) -> bool:
    """Whether a world carries its pictures over the ground plane, as those trained on drives do."""
    return isinstance(world, WorldModel) and world.network.config.warp_condition


def world_files(world: str) -> str:
    """Fingerprint of a world's files by name, size and time; weights are not read for it."""
    folder = Path(world).expanduser() if is_release(world) else find_world(world)
    if not folder.is_dir():
        return world  # a hub id, whose files lie where its contents name them
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return fingerprint(str(folder.resolve()), *(stamp_of(path) for path in files))


def _check_ground(poses: Float64[np.ndarray, "n 4 4"]) -> None:
    frame = int(poses[:, 2, 3].argmin())
    lowest = float(poses[frame, 2, 3])
    if lowest < MIN_CAMERA_HEIGHT_M:
        raise ValueError(
            f"path: got a camera {lowest:.2f} m above the ground in frame {frame}, expected at "
            f"least {MIN_CAMERA_HEIGHT_M:g}, as this world reads the ground plane; begin higher "
            "(--camera-height), tell how far the first camera looks down (--camera-pitch-deg), or "
            "level the path"
        )
