"""Samplers: from noise to latents with a trained velocity network.

Two of them. :func:`sample_chunk` is the few-step streaming sampler: predict the clean latents, mix
fresh noise in at the next lower level, repeat. :func:`sample_clip` integrates the whole clip with
Euler steps and classifier-free guidance, the first latent frame being given.

Axes: b clips, c channels, n or t latent frames, h and w of the latent grid.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sanawm_gym.worldmodel.camera_condition import CameraCondition
from sanawm_gym.worldmodel.cross_attention import TextContext
from sanawm_gym.worldmodel.engine import StreamNetwork
from sanawm_gym.worldmodel.flow import NUM_TIMESTEPS, add_noise, velocity_to_x_0
from sanawm_gym.worldmodel.model import SanaWM
from sanawm_gym.worldmodel.state import SanaWMState


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance (Ho and Salimans 2022): v = v_null + s (v_text - v_null)."""

    scale: float
    """s; 1 draws what the prompts give."""
    null_text: TextContext
    """Encoding of empty prompts, a row each."""


def sample_chunk(
    network: StreamNetwork,
    noises: Sequence[Float[Tensor, "b c n h w"]],
    sigmas: Sequence[float],
    text: TextContext,
    camera: CameraCondition,
    state: SanaWMState,
    guidance: Guidance | None = None,
) -> Float[Tensor, "b c n h w"]:
    """Draw the next chunk of a stream; the state is read, not written.

    Args:
        network: Velocity network.
        noises: One noise a level; the first one is the start.
        sigmas: Noise levels to denoise at, falling from 1, without the final 0.
        text: Encoded prompts.
        camera: Cameras of the chunk in the state's origin.
        state: What the network remembers of the past.
        guidance: How far to go beyond what the prompts alone give; None draws what they give. It
            costs a second pass a level.

    Returns:
        Clean latents. A pass of them at timestep 0 with ``update_state=True`` makes them past.
    """
    x_0 = noises[0]
    for sigma, noise in zip(sigmas, noises, strict=True):
        level = torch.full((x_0.shape[0], x_0.shape[2]), sigma, device=x_0.device)
        x_sigma = add_noise(x_0.float(), noise, level) if sigma < 1 else noise
        given, timestep = x_sigma.to(noises[0].dtype), NUM_TIMESTEPS * level
        v, _ = network.step(given, timestep, text, camera, state, update_state=False)
        if guidance is not None:
            null, _ = network.step(
                given, timestep, guidance.null_text, camera, state, update_state=False
            )
            v = null + guidance.scale * (v - null)
        x_0 = velocity_to_x_0(x_sigma.float(), v.float(), level)
    return x_0


def sample_clip(
    network: SanaWM,
    first: Float[Tensor, "b c 1 h w"],
    noise: Float[Tensor, "b c t h w"],
    sigmas: Sequence[float],
    text: TextContext,
    null_text: TextContext | None,
    camera: CameraCondition | None,
    *,
    guidance: float = 1.0,
) -> Float[Tensor, "b c t h w"]:
    """Integrate a clip from noise with Euler steps, its first latent frame held clean.

    Args:
        network: Velocity network, used in bidirectional mode.
        first: Clean latent of the first frame; its timestep is 0 and it is never changed.
        noise: Start; its first frame is replaced.
        sigmas: Noise levels from 1 down to 0, both included.
        text: Encoded prompts.
        null_text: Encoding of the empty prompt; needed when guidance is not 1.
        camera: Cameras of the clip, or None.
        guidance: Classifier-free guidance scale s in v = v_null + s (v_text - v_null).

    Raises:
        ValueError: If guidance is asked for without ``null_text``.
    """
    if guidance != 1.0 and null_text is None:
        raise ValueError("guidance needs null_text: encode an empty prompt and pass it")
    x = torch.cat([first, noise[:, :, 1:]], dim=2)
    for sigma, sigma_next in itertools.pairwise(sigmas):
        level = torch.full((x.shape[0], x.shape[2]), sigma, device=x.device)
        level[:, 0] = 0.0
        v = network(x, NUM_TIMESTEPS * level, text, camera)
        if guidance != 1.0:
            assert null_text is not None
            v_null = network(x, NUM_TIMESTEPS * level, null_text, camera)
            v = v_null + guidance * (v - v_null)
        moved = x + (sigma_next - sigma) * v
        x = torch.cat([first, moved[:, :, 1:]], dim=2)
    return x
