"""The samplers of the release, from noise to latents with the first picture given.

A clip is described by a table of noise levels, one row a step and one column a latent frame; Euler
steps move every frame from its level in one row to that in the next. The table is all that differs
between the bidirectional sampler (every row the same for all frames) and the chunk-causal one
(*staggered*: chunk c begins floor(c * interval * steps) steps late, so a pyramid of levels slides
over the clip). Frames that have not begun are left out of the call, finished ones stay in it at
level 0, and so does the given first frame. [`flow_euler_ltx` and `chunk_flow_euler` of the released
code; per-token timesteps after LTX-Video.]

A stream draws one chunk after the other against the network's memory and then shows the network
the finished chunk once more at timestep 0, which is what it remembers [`self_forcing`].

Axes: b rows, c latent channels, t latent frames of a clip, n of a chunk, k steps, y x latent grid.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sanawm_gym.worldmodel.camera_condition import CameraCondition
from sanawm_gym.worldmodel.chunks import Mode, chunk_sizes
from sanawm_gym.worldmodel.cross_attention import TextContext
from sanawm_gym.worldmodel.engine import StreamNetwork
from sanawm_gym.worldmodel.flow import NUM_TIMESTEPS, add_noise, scheduler_sigmas, velocity_to_x_0
from sanawm_gym.worldmodel.model import SanaWM
from sanawm_gym.worldmodel.state import SanaWMState

from .dpm_solver import DpmSolver, flow_levels
from .sampling import SamplingConfig

OnStep = Callable[[int, int, Tensor], None]
"""Told after every step of a clip: steps done, steps in all, the latents as they are."""


@dataclass(frozen=True, kw_only=True)
class Guided:
    """Prompts of a call, and what guidance leads away from.

    Attributes:
        text: Encoded prompts.
        null: Encoded negative prompts of as many rows; needed where guidance is not 1.
    """

    text: TextContext
    null: TextContext | None = None


@dataclass(frozen=True, kw_only=True)
class Unguided:
    """What guidance of a stream leads away from: the negative prompt, and its own memory."""

    text: TextContext
    state: SanaWMState


def level_table(num_frames: int, network: SanaWM, sampling: SamplingConfig) -> Float[Tensor, "k t"]:
    """Noise levels of a clip before every step, and after the last one.

    Args:
        num_frames: Latent frames of the clip, the given first one included.
        network: Gives the chunks.
        sampling: Mode, steps, shift and interval.
    """
    steps = sampling.num_steps
    sigmas = torch.tensor(scheduler_sigmas(steps, sampling.shift))
    sizes = chunk_sizes(num_frames, network.config, _mode_of(sampling))
    interval = 1.0 / len(sizes) if sampling.interval is None else sampling.interval
    starts = [math.floor(c * interval * steps) for c in range(len(sizes))]
    step = torch.arange(starts[-1] + steps + 1)
    columns = [sigmas[(step - start).clamp(0, steps)] for start in starts]
    table = torch.stack(columns, dim=1).repeat_interleave(torch.tensor(sizes), dim=1)
    table[:, 0] = 0.0
    return table


@torch.no_grad()
def draw_clip(
    network: SanaWM,
    first: Float[Tensor, "b c 1 y x"],
    noise: Float[Tensor, "b c t y x"],
    prompts: Guided,
    camera: CameraCondition | None,
    sampling: SamplingConfig,
    on_step: OnStep | None = None,
) -> Float[Tensor, "b c t y x"]:
    """Integrate a whole clip; bidirectional or staggered, as the sampling says.

    Args:
        network: Velocity network.
        first: Clean latent of the first picture; it stays as it is.
        noise: Start; its first frame is not used.
        prompts: Encoded prompts.
        camera: Cameras of the clip.
        sampling: Schedule and guidance.
        on_step: Called after every step.

    Raises:
        ValueError: If guidance is asked for without a negative prompt.
    """
    if sampling.guidance != 1.0 and prompts.null is None:
        raise ValueError(
            f"got guidance={sampling.guidance} without Guided.null; encode the negative prompt, "
            "which may be empty, or set guidance=1"
        )
    if sampling.solver != "euler":
        return _draw_by_dpm(network, first, noise, prompts, camera, sampling, on_step)
    table = level_table(noise.shape[2], network, sampling)
    x = torch.cat([first.float(), noise[:, :, 1:].float()], dim=2)
    num_steps = len(table) - 1
    for step, (now, following) in enumerate(itertools.pairwise(table)):
        # Chunks begin in order and leave level 1 with their first step.
        begun = int((following < 1).sum())
        part = None if camera is None else camera.frames(0, begun)
        level = now[:begun].to(x.device).expand(x.shape[0], -1)
        v = _velocity(network, x[:, :, :begun], level, prompts, part, sampling)
        change = (following - now)[:begun].to(x.device)
        moved = x[:, :, :begun] + change[:, None, None] * v
        x = torch.cat([moved, x[:, :, begun:]], dim=2)
        if on_step is not None:
            on_step(step + 1, num_steps, x)
    return x


@torch.no_grad()
def draw_chunk(
    network: StreamNetwork,
    noises: list[Float[Tensor, "b c n y x"]],
    given: Float[Tensor, "b c g y x"] | None,
    text: TextContext,
    camera: CameraCondition,
    state: SanaWMState,
    sampling: SamplingConfig,
    unguided: Unguided | None = None,
) -> tuple[Float[Tensor, "b c n y x"], SanaWMState]:
    """Draw the next chunk of a stream and remember it.

    Args:
        network: Velocity network with a memory.
        noises: Where each timestep gets its noise from: the start, and with "fresh_noise" one more
            for every further timestep.
        given: Clean latents at the beginning of the chunk, which stay as they are: the first
            picture in the first chunk, else None.
        text: Encoded prompts.
        camera: Cameras of the chunk in the stream's origin.
        state: What the network remembers; read, not written.
        sampling: Timesteps, how the next one is reached, guidance.
        unguided: The same stream under the negative prompt; where guidance is not 1.

    Returns:
        Clean latents, float32, the given ones included, and the memory that has them. The unguided
        memory is shown them by the caller.

    Raises:
        ValueError: If there are too few noises, or guidance has nothing to lead away from.
    """
    if sampling.guidance != 1.0 and unguided is None:
        raise ValueError(
            f"got guidance={sampling.guidance} without an unguided memory; begin the stream with "
            "this sampling, or set guidance=1"
        )
    sigmas = [t / NUM_TIMESTEPS for t in sampling.timesteps]
    fresh = sampling.next_level == "fresh_noise"
    if len(noises) < (len(sigmas) if fresh else 1):
        raise ValueError(
            f"got {len(noises)} noises for {len(sigmas)} timesteps with next_level="
            f"{sampling.next_level!r}"
        )
    num_given = 0 if given is None else given.shape[2]

    def hold(x: Tensor) -> Tensor:
        return x if given is None else torch.cat([given.float(), x[:, :, num_given:]], dim=2)

    x = hold(noises[0].float())
    for i, sigma in enumerate(sigmas):
        level = torch.full((x.shape[0], x.shape[2]), sigma, device=x.device)
        level[:, :num_given] = 0.0
        v, _ = network.step(x, NUM_TIMESTEPS * level, text, camera, state, update_state=False)
        if unguided is not None:
            v_null, _ = network.step(
                x, NUM_TIMESTEPS * level, unguided.text, camera, unguided.state, update_state=False
            )
            v = v_null.float() + sampling.guidance * (v.float() - v_null.float())
        clean = velocity_to_x_0(x, v.float(), level)
        if i + 1 == len(sigmas):
            x = hold(clean)
        elif fresh:
            lower = torch.full_like(level, sigmas[i + 1])
            x = hold(add_noise(clean, noises[i + 1].float(), lower))
        else:
            x = hold(x + (sigmas[i + 1] - sigma) * v.float())
    _, remembered = network.remember(x, text, camera, state)
    return x, remembered


def _draw_by_dpm(
    network: SanaWM,
    first: Tensor,
    noise: Tensor,
    prompts: Guided,
    camera: CameraCondition | None,
    sampling: SamplingConfig,
    on_step: OnStep | None,
) -> Tensor:
    """A bidirectional clip by the solver of order 2; arguments as `draw_clip`."""
    levels = flow_levels(sampling.num_steps, sampling.shift)
    solver = DpmSolver(levels)
    x = torch.cat([first.float(), noise[:, :, 1:].float()], dim=2)
    for step, sigma in enumerate(levels[:-1]):
        level = torch.full((x.shape[0], x.shape[2]), sigma, device=x.device)
        level[:, 0] = 0.0
        v = _velocity(network, x, level, prompts, camera, sampling)
        moved = solver.step(x, x - sigma * v, step)
        x = torch.cat([x[:, :, :1], moved[:, :, 1:]], dim=2)
        if on_step is not None:
            on_step(step + 1, sampling.num_steps, x)
    return x


def _velocity(
    network: SanaWM,
    x: Tensor,
    level: Tensor,
    prompts: Guided,
    camera: CameraCondition | None,
    sampling: SamplingConfig,
) -> Tensor:
    """Velocity under guidance, in float32."""
    mode = _mode_of(sampling)
    v: Tensor = network(x, NUM_TIMESTEPS * level, prompts.text, camera, mode=mode).float()
    if sampling.guidance == 1.0 or prompts.null is None:
        return v
    v_null: Tensor = network(x, NUM_TIMESTEPS * level, prompts.null, camera, mode=mode).float()
    return v_null + sampling.guidance * (v - v_null)


def _mode_of(sampling: SamplingConfig) -> Mode:
    return "bidirectional" if sampling.mode == "bidirectional" else "chunk_causal"
