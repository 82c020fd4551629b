"""A teacher's trajectories on disk: one file a clip, an index, and nothing believed unseen.

``trajectories.json`` says at which noise levels they were kept and, once all are there, which files
they are; ``run.json`` how they were made. A file holds the latents at every level, from noise to
clean; what the last of them looks like when every picture is carried over the ground to the next
cameras; and those cameras.

Axes: k noise levels with the final 0, c channels, t latent frames, f raw frames, y and x of the
latent grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sanawm_gym.train_wm.latent_clips import LatentClip, write_clip
from sanawm_gym.worldmodel.folder import read_json, write_json

INDEX = "trajectories.json"


@dataclass(frozen=True)
class Trajectory:
    """One clip on its way from noise to clean."""

    snapshots: Float[Tensor, "k t c y x"]
    """Latents at every level, the last ones clean; their first frame is clean throughout."""
    warped: Float[Tensor, "t c y x"] | None
    """As `LatentClip.warped`, of the clean latents; None where none were made."""
    poses: Float[Tensor, "f 4 4"]
    """world_from_camera of every raw frame [m], float64."""
    intrinsics: Float[Tensor, " 4"]
    """fx, fy, cx, cy [px]."""
    caption: str

    def clip(self) -> LatentClip:
        """The clean end, as a clip like any other."""
        clean = self.snapshots[-1]
        return LatentClip(
            latents=clean,
            warped=clean[:0] if self.warped is None else self.warped,
            poses=self.poses,
            intrinsics=self.intrinsics,
            caption=self.caption,
        )


def write_trajectory(path: Path, trajectory: Trajectory) -> None:
    """Write a trajectory's file whole or not at all."""
    tensors = {
        "snapshots": trajectory.snapshots.half().cpu(),
        "poses": trajectory.poses,
        "intrinsics": trajectory.intrinsics,
    }
    if trajectory.warped is not None:
        tensors["warped"] = trajectory.warped.half().cpu()
    write_clip(path, tensors)


def read_trajectory(path: Path, caption: str, num_levels: int, num_latents: int) -> Trajectory:
    """Read one file.

    Args:
        path: The file.
        caption: Under which it was drawn.
        num_levels: Levels k that the index promises.
        num_latents: Latent frames t that the index promises.

    Raises:
        ValueError: If it is missing, is damaged or holds something else than promised.
    """
    remedy = "delete it and give the trajectories command again"
    try:
        found = load_file(path)
        trajectory = Trajectory(
            snapshots=found["snapshots"],
            warped=found.get("warped"),
            poses=found["poses"],
            intrinsics=found["intrinsics"],
            caption=caption,
        )
    except (SafetensorError, OSError, KeyError) as error:
        raise ValueError(f"{path} is not a readable trajectory ({error}): {remedy}") from error
    size = tuple(trajectory.snapshots.shape[:2])
    if size != (num_levels, num_latents):
        raise ValueError(
            f"{path} holds (levels, latent frames) = {size}, expected "
            f"{(num_levels, num_latents)}: {remedy}"
        )
    parts = [part for part in (trajectory.snapshots, trajectory.warped) if part is not None]
    if not all(bool(part.isfinite().all()) for part in parts):
        raise ValueError(f"{path} holds latents that are not finite: {remedy}")
    return trajectory


class TrajectoryStore:
    """Trajectories of a folder, read one at a time.

    Args:
        folder: Written by the ``trajectories`` stage.

    Raises:
        ValueError: If there is no index, or the trajectories are not all there yet.
    """

    def __init__(self, folder: Path) -> None:
        index = read_json(folder / INDEX)
        if not index["clips"]:
            raise ValueError(
                f"the trajectories in {folder} are not complete: give the command that makes them "
                "again, it goes on where it was interrupted"
            )
        self._folder, self._clips = folder, index["clips"]
        self.num_latents: int = index["num_latents"]
        self.sigmas: tuple[float, ...] = tuple(index["sigmas"])
        """Noise levels of the snapshots, falling from 1; the clean one after them is not named."""

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, place: int) -> Trajectory:
        entry = self._clips[place]
        levels = len(self.sigmas) + 1
        path = self._folder / entry["file"]
        return read_trajectory(path, entry["caption"], levels, self.num_latents)


def begin_store(folder: Path, sigmas: tuple[float, ...]) -> None:
    """Make a folder known as one of trajectories that are not all there yet.

    Args:
        folder: Left as it is if it has an index.
        sigmas: Noise levels of the snapshots.
    """
    if not (folder / INDEX).exists():
        finish_store(folder, sigmas, 0, [])


def finish_store(
    folder: Path, sigmas: tuple[float, ...], num_latents: int, clips: list[dict[str, str]]
) -> None:
    """Name all files, which makes the folder fit for reading."""
    content = {"sigmas": list(sigmas), "num_latents": num_latents, "clips": clips}
    write_json(folder / INDEX, content)
