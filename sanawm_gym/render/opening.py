"""Worlds to render with: those of this project, and the released SANA-WM in any of its layouts.

Axes: b rows, f raw frames, h and w of the picture.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from tqdm import tqdm

from sanawm_gym.paths.camera_path import whole_chunks
from sanawm_gym.worldmodel import WorldModel
from sanawm_gym.worldmodel.official import OfficialConfig, OfficialWorld, Opening
from sanawm_gym.worldmodel.official.layout import denied, is_release
from sanawm_gym.worldmodel.official.parts import check_device

from .drawing import PathWorld
from .release import ReleaseConfig

if TYPE_CHECKING:
    from .job import RenderJob


def open_world(job: RenderJob, num_frames: int) -> PathWorld:
    """Load the world of a job.

    Args:
        job: Names it and says how to load it.
        num_frames: Of the path; networks that draw clips as a whole draw so many.

    Raises:
        ValueError: If there is no such world or device, or a part is missing or does not fit.
        ModuleNotFoundError: If a package is missing, naming the extra.
    """
    check_device(job.device)
    if not is_release(job.world):
        if job.release != ReleaseConfig():
            raise ValueError(
                f"release: got {job.release} for the world {denied(job.world)}; leave the options "
                "--release.* out, or give the folder of a release"
            )
        return WorldModel.from_pretrained(
            job.world, device=job.device, dtype=job.dtype, refine=job.refine, backend=job.backend
        )
    if job.backend != "auto":
        raise ValueError(
            f"backend: got {job.backend!r} for released weights, expected 'auto', the only one"
        )
    release = job.release
    config = OfficialConfig(
        device=job.device,
        dtype=job.dtype,
        offload=release.offload,
        refine=release.refining if job.refine else "no",
        formulas=release.formulas,
        cuda_graphs=release.cuda_graphs,
        compile=release.compile,
        width=release.width,
        height=release.height,
        autoencoder=release.autoencoder,
        text=release.text,
        refiner=release.refiner,
    )
    world = OfficialWorld.from_pretrained(job.world, config)
    said = {
        "num_steps": release.steps,
        "guidance": release.guidance,
        "negative_prompt": release.negative_prompt,
    }
    changes: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    if world.sampling.mode == "streaming":
        if changes:
            raise ValueError(
                f"release: got {changes} for a streaming network, expected it to be left to the "
                "release, whose steps it was distilled to"
            )
        return world
    world = OfficialWorld(world.parts, dataclasses.replace(world.sampling, **changes), config)
    return WholeClip(world, num_frames)


def unit_of(world: PathWorld) -> float:
    """Length that a released network takes for a metre [m]; 1 unless it was tuned otherwise."""
    official = world.world if isinstance(world, WholeClip) else world
    if not isinstance(official, OfficialWorld):
        return 1.0
    return official.parts.network.config.camera_unit_m


def without_refiner(world: PathWorld) -> PathWorld:
    """The same world that shows its draft; weights are shared."""
    if isinstance(world, WholeClip):
        return WholeClip(world.world, world.frames_per_step + 1, refine=False, drafts=world.drafts)
    if isinstance(world, OfficialWorld):
        config = dataclasses.replace(world.config, refine="no")
        return OfficialWorld(world.parts, world.sampling, config)
    assert isinstance(world, WorldModel)
    return WorldModel(
        world.config,
        world.network,
        world.autoencoder,
        world.text_encoder,
        world.heads,
        engine=world.engine,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipState:
    """What a whole clip begins with."""

    opening: Opening
    """Pictures, prompts, lenses and seeds."""
    poses: Float[np.ndarray, "b 1 4 4"]
    """`world_from_camera` of the pictures [m]."""


class WholeClip:
    """A released network that draws a clip at once: a world of a single long chunk."""

    def __init__(
        self,
        world: OfficialWorld,
        num_frames: int,
        *,
        refine: bool | None = None,
        drafts: dict[str, Any] | None = None,
    ) -> None:
        """Set the length.

        Args:
            world: Draws.
            num_frames: Least number of frames, the picture's own among them; rounded up to whole
                latents.
            refine: Refine the draft; as the world was opened if not given.
            drafts: Latents that were drawn already, by what they were drawn from; shared between
                the preview and the refined clip.
        """
        self.world, self.drafts = world, {} if drafts is None else drafts
        self.width, self.height, self.fps = world.width, world.height, world.fps
        stride = world.parts.network.config.temporal_stride
        self.frames_per_step = stride * max(1, whole_chunks(num_frames, stride))
        self._refine = world.config.refine != "no" if refine is None else refine

    def start(
        self,
        images: UInt8[np.ndarray, "b f h w 3"],
        *,
        prompts: list[str],
        intrinsics: Float[np.ndarray, "b 4"],
        seeds: list[int],
        poses: Float[np.ndarray, "b f 4 4"],
    ) -> ClipState:
        """Remember what the clip begins with."""
        opening = Opening(images=images[:, -1], prompts=prompts, intrinsics=intrinsics, seeds=seeds)
        return ClipState(opening=opening, poses=poses[:, -1:])

    def step(
        self, state: ClipState, poses: Float[np.ndarray, "b f 4 4"]
    ) -> tuple[UInt8[np.ndarray, "b f h w 3"], ClipState]:
        """Draw the clip; its first picture is the given one and not among what comes back."""
        key = repr((state.opening.prompts, state.opening.seeds, poses.tobytes()))
        if key not in self.drafts:
            path = np.concatenate([state.poses, poses], axis=1)
            with _bar("denoising", "step") as told:
                self.drafts[key] = self.world.draw_latents(state.opening, path, told)
        latents = self.drafts[key]
        if self._refine:
            with _bar("refining", "block") as told:
                latents = self.world.refine_latents(latents, state.opening.prompts, told)
        with torch.no_grad():
            pixels = self.world.parts.autoencoder.decode(latents)[:, :, 1:]
        frames = ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        return frames.permute(0, 2, 3, 4, 1).contiguous().cpu().numpy(), state


@contextmanager
def _bar(label: str, unit: str) -> Iterator[Callable[..., None]]:
    """A bar beside that of the video: a clip at once takes minutes in which no picture comes."""
    with tqdm(desc=label, unit=unit, leave=False, miniters=1, mininterval=0.0) as bar:

        def told(done: int, total: int, *_: object) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield told
