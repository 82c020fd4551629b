"""A few-step student drawing clips as it will be driven: chunk after chunk from its own past.

Between two levels the student's clean latents get fresh noise; after the last one they become the
past, by a pass at timestep 0. Gradients belong to the last level alone: what came before it, and
the past, are taken as given. [source: self forcing, Huang et al. 2025, arXiv 2506.08009]

Axes: b clips, k noise levels, c channels, t latent frames of a clip, n of a chunk, y and x of the
latent grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from sanawm_gym.train_wm.clip_path import ChunkPath, ClipPath, Origin
from sanawm_gym.worldmodel.autoencoder import VideoAutoencoder
from sanawm_gym.worldmodel.camera_condition import CameraCondition
from sanawm_gym.worldmodel.cross_attention import TextContext
from sanawm_gym.worldmodel.flow import NUM_TIMESTEPS, add_noise, velocity_to_x_0
from sanawm_gym.worldmodel.ground_warp import warped_latent
from sanawm_gym.worldmodel.model import SanaWM
from sanawm_gym.worldmodel.state import SanaWMState

RELEASED_SIGMAS = (1.0, 0.96, 0.889, 0.727)
"""Noise levels at which the released student draws: shift 8 of 1, .75, .5, .25."""


def check_sigmas(sigmas: Sequence[float]) -> None:
    """Refuse levels that no student can draw at.

    Raises:
        ValueError: If they do not fall from 1 to above 0.
    """
    falling = list(sigmas) == sorted(set(sigmas), reverse=True)
    if not sigmas or sigmas[0] != 1.0 or not falling or sigmas[-1] <= 0:
        raise ValueError(
            f"sigmas must fall from 1.0 without repeats and stay above 0, got {tuple(sigmas)}"
        )


@dataclass(frozen=True)
class Drawing:
    """What a student made of clips."""

    latents: Float[Tensor, "b c t y x"]
    """Clean latents, the first frame as it was given."""
    shown: Float[Tensor, "b c t y x"] | None
    """Warped pictures it was shown, zero at the first frame; None for students shown none."""


@dataclass(frozen=True)
class StudentStream:
    """A student and what it needs to see its own pictures."""

    network: SanaWM
    autoencoder: VideoAutoencoder | None
    """Needed for `warp_condition`, on the network's device."""
    origin: Origin
    """Where the cameras of a chunk are measured from."""

    def draw(
        self,
        first: Float[Tensor, "b c 1 y x"],
        noises: Float[Tensor, "k b c t y x"],
        sigmas: Sequence[float],
        text: TextContext,
        path: ClipPath,
    ) -> Drawing:
        """Continue pictures along cameras.

        Args:
            first: Latent of the first picture; it is given and never changed.
            noises: One noise a level, on the network's device.
            sigmas: The k levels, falling from 1. Stopping at a level above the student's lowest
                leaves what it makes of that level.
            text: Encoded prompts.
            path: Cameras of all t latent frames.

        Raises:
            ValueError: If a warped picture is wanted and there is no autoencoder.
        """
        config, device = self.network.config, first.device
        if config.warp_condition and self.autoencoder is None:
            raise ValueError("a student with warp_condition needs an autoencoder to see through")
        state = self.network.initial_state(first.shape[0], *path.grid, device=device)
        picture: Tensor | None = None
        memory: list[Tensor] | None = None
        latents, shown = [], []
        for chunk in path.chunks(config, self.origin):
            if chunk.transport is not None:
                state = state.reanchor(chunk.transport.to(device))
            camera = chunk.camera.to(device)
            if config.warp_condition:
                warped = torch.zeros_like(first)
                if picture is not None:
                    warped = self._carry(picture, chunk, path.intrinsics)
                camera = replace(camera, warped=warped)
                shown.append(warped)
            given = first if chunk.start == 0 else None
            noise = noises[:, :, :, chunk.start : chunk.stop]
            x_0 = self._draw_chunk(noise, sigmas, text, camera, state, given)
            latents.append(x_0)
            if chunk.stop == noises.shape[3]:
                break
            with torch.no_grad():
                clean = torch.zeros(x_0.shape[0], x_0.shape[2], device=device)
                past = x_0.detach()
                _, state = self.network.step(past, clean, text, camera, state, update_state=True)
                if config.warp_condition:
                    assert self.autoencoder is not None
                    pixels, memory = self.autoencoder.decode_step(past, memory)
                    picture = pixels[:, :, -1].float()
        return Drawing(torch.cat(latents, dim=2), torch.cat(shown, dim=2) if shown else None)

    def _draw_chunk(
        self,
        noises: Float[Tensor, "k b c n y x"],
        sigmas: Sequence[float],
        text: TextContext,
        camera: CameraCondition,
        state: SanaWMState,
        given: Float[Tensor, "b c 1 y x"] | None,
    ) -> Float[Tensor, "b c n y x"]:
        """As `sampler.sample_chunk`, with a frame that may be given and one level's gradient."""
        num_frames, x_0 = noises.shape[3], noises[0]
        if given is not None and num_frames == 1:
            return given
        wanted = torch.is_grad_enabled()
        for number, (sigma, noise) in enumerate(zip(sigmas, noises, strict=True), start=1):
            level = torch.full((noise.shape[0], num_frames), sigma, device=noise.device)
            if given is not None:
                level[:, 0] = 0.0
            with torch.set_grad_enabled(wanted and number == len(sigmas)):
                x_sigma = noise if number == 1 else add_noise(x_0, noise, level)
                if given is not None:
                    x_sigma = torch.cat([given, x_sigma[:, :, 1:]], dim=2)
                v, _ = self.network.step(
                    x_sigma, NUM_TIMESTEPS * level, text, camera, state, update_state=False
                )
                x_0 = velocity_to_x_0(x_sigma, v.float(), level)
        return x_0

    @torch.no_grad()
    def _carry(
        self, picture: Tensor, chunk: ChunkPath, intrinsics: Tensor
    ) -> Float[Tensor, "b c 1 y x"]:
        assert self.autoencoder is not None
        return warped_latent(
            self.autoencoder,
            picture,
            chunk.last_pose,
            chunk.poses,
            intrinsics,
            self.network.config.warp_sharpening,
        )
