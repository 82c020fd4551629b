"""A teacher drawing clips in many steps, with snapshots on the way.

The probability-flow ODE dx/dsigma = v is followed by Euler steps from noise to clean, the velocity
guided away from a negative prompt. A bidirectional teacher takes the whole clip down together. In a
chunk-causal one each chunk may lag behind the chunk before it, so that it is drawn against a past
that is cleaner than itself; every chunk passes all levels, each in its own time.

Axes: b clips, k snapshot levels with the final 0, c channels, t latent frames, y and x of the
latent grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sanawm_gym.worldmodel.camera_condition import CameraCondition
from sanawm_gym.worldmodel.chunks import Mode, chunk_sizes
from sanawm_gym.worldmodel.cross_attention import TextContext
from sanawm_gym.worldmodel.flow import NUM_TIMESTEPS, euler_sigmas
from sanawm_gym.worldmodel.model import SanaWM


@dataclass(frozen=True)
class Grid:
    """Noise levels of an Euler sampler, some of which are to be kept."""

    sigmas: tuple[float, ...]
    """From 1 down to 0, both included."""
    kept: tuple[int, ...]
    """Places among them at which snapshots are taken."""

    @classmethod
    def of(cls, num_steps: int, shift: float, sigmas: Sequence[float]) -> Grid:
        """An Euler grid in which every level to be kept stands in place of the nearest one.

        Args:
            num_steps: Euler steps.
            shift: Shift of their levels.
            sigmas: Levels to be kept, falling from 1; the final 0 is always kept.

        Raises:
            ValueError: If the steps are too few to tell the levels apart.
        """
        grid = euler_sigmas(num_steps, shift)
        kept = [0]
        for sigma in sigmas[1:]:
            inner = range(1, num_steps)
            kept.append(min(inner, key=lambda i: abs(grid[i] - sigma), default=0))
        if len(set(kept)) < len(kept):
            raise ValueError(
                f"{num_steps} steps are too few to pass the levels {tuple(sigmas)} one by one: "
                "take more steps or fewer levels"
            )
        for place, sigma in zip(kept, sigmas, strict=True):
            grid[place] = sigma
        return cls(tuple(grid), (*kept, num_steps))


@dataclass(frozen=True)
class TeacherSampler:
    """A network that draws clips at once, and how."""

    network: SanaWM
    mode: Mode
    """Which frames see which."""
    grid: Grid
    guidance: float
    """Scale s in v = v_null + s (v_text - v_null); 1 asks for no v_null."""
    lag: float
    """Share of all steps by which a chunk starts after the one before it, 0 to 1; 1 finishes every
    chunk before the next begins. A bidirectional clip is one chunk."""

    @torch.no_grad()
    def draw(
        self,
        first: Float[Tensor, "b c 1 y x"],
        noise: Float[Tensor, "b c t y x"],
        text: TextContext,
        null_text: TextContext | None,
        camera: CameraCondition,
    ) -> Float[Tensor, "k b c t y x"]:
        """Snapshots of clips from noise to clean, the last one clean.

        Args:
            first: Latent of the first picture, held clean throughout.
            noise: Start; its first frame is replaced.
            text: Encoded prompts.
            null_text: Encoded negative prompts; needed when guidance is not 1.
            camera: Cameras of the clips.
        """
        x = torch.cat([first, noise[:, :, 1:]], dim=2)
        sigmas = torch.tensor(self.grid.sigmas, device=x.device)
        num_steps = len(sigmas) - 1
        chunks = torch.tensor(chunk_sizes(x.shape[2], self.network.config, self.mode))
        waits = [math.floor(chunk * self.lag * num_steps) for chunk in range(len(chunks))]
        wait = torch.tensor(waits).repeat_interleave(chunks)
        snapshots = x.new_zeros(len(self.grid.kept), *x.shape)
        for step in range(waits[-1] + num_steps + 1):
            done = (step - wait).clamp(0, num_steps)
            for number, place in enumerate(self.grid.kept):
                there = done == place
                snapshots[number][:, :, there] = x[:, :, there]
            # No frame sees later chunks: those that have not begun need not be computed.
            stop = int((wait <= step).sum())
            following = (step + 1 - wait).clamp(0, num_steps)
            fall = (sigmas[following] - sigmas[done])[:stop]
            fall[0] = 0.0
            if not bool(fall.any()):
                continue
            level = sigmas[done][:stop].repeat(len(x), 1)
            level[:, 0] = 0.0
            v = self._velocity(x[:, :, :stop], level, text, null_text, camera.frames(0, stop))
            moved = x[:, :, :stop] + fall[None, None, :, None, None] * v
            x = torch.cat([moved, x[:, :, stop:]], dim=2)
        return snapshots

    def _velocity(
        self,
        x: Tensor,
        level: Float[Tensor, "b t"],
        text: TextContext,
        null_text: TextContext | None,
        camera: CameraCondition,
    ) -> Float[Tensor, "b c t y x"]:
        timestep = NUM_TIMESTEPS * level
        v: Tensor = self.network(x, timestep, text, camera, mode=self.mode).float()
        if self.guidance == 1.0:
            return v
        assert null_text is not None
        v_null: Tensor = self.network(x, timestep, null_text, camera, mode=self.mode).float()
        return v_null + self.guidance * (v - v_null)
