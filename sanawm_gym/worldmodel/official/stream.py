"""A released network's stream: chunk after chunk of latents in one origin.

The first chunk has one latent more, which is the picture the stream began with; its cameras are
those of a clip. All later ones are further latents of a stream, their cameras told in the origin of
that picture, or of a later one if it is far behind (`reanchor`), their frames numbered on.

Axes: b rows, f pictures, c t y x latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sanawm_gym.worldmodel.camera_condition import clip_camera, stream_camera
from sanawm_gym.worldmodel.frame_pass import window_length
from sanawm_gym.worldmodel.noise import row_noise
from sanawm_gym.worldmodel.refiner import RefinerState
from sanawm_gym.worldmodel.refiner.sampler import refine_block
from sanawm_gym.worldmodel.state import window_valid
from sanawm_gym.worldmodel.ucpe import invert_rigid

from .offload import bring, present
from .parts import OfficialParts
from .reanchor import follow
from .samplers import OnStep, Unguided
from .sampling import SamplingConfig
from .speed import DrawChunk, draw_trimmed, trim
from .state import OfficialState

_REFINER_PURPOSE = 1000
"""Of the refiner's noise, apart from that of the draft's timesteps."""


@dataclass(frozen=True, kw_only=True)
class Screen:
    """Size of the pictures [px] and of the latent grid: rows, columns."""

    picture: tuple[int, int]
    grid: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Stream:
    """What draws chunks.

    Attributes:
        parts: Networks.
        sampling: Timesteps, and how the next one is reached.
        screen: Sizes.
        draw: What draws a chunk; see `speed`.
    """

    parts: OfficialParts
    sampling: SamplingConfig
    screen: Screen
    draw: DrawChunk = draw_trimmed

    @property
    def frames_per_chunk(self) -> int:
        """Pictures of every chunk, the one the stream began with not counted."""
        config = self.parts.network.config
        return config.temporal_stride * config.chunk_size

    def begin(
        self,
        first: Float[Tensor, "b c 1 y x"],
        prompts: Sequence[str],
        intrinsics: Float[Tensor, "b 4"],
        seeds: Sequence[int],
        origin: Float[Tensor, "b 4 4"],
    ) -> OfficialState:
        """State before the first chunk.

        Args:
            first: Latent of the picture it begins with.
            prompts: One a row.
            intrinsics: fx, fy, cx, cy in pixels.
            seeds: One a row.
            origin: world_from_camera of the picture [m].
        """
        network = self.parts.network
        memory = network.initial_state(len(prompts), *self.screen.grid, self.parts.device)
        guided = self.parts.guided(prompts, self.sampling)
        return OfficialState(
            network=memory,
            text=guided.text,
            null_network=None if guided.null is None else memory,
            null_text=guided.null,
            decoder=(),
            first=first,
            latent=first[:, :, 0],
            origin=origin,
            begin=origin,
            last_pose=origin,
            sink=torch.eye(4, dtype=origin.dtype).expand_as(origin),
            intrinsics=intrinsics,
            seeds=torch.tensor(list(seeds), dtype=torch.int64),
            steps=torch.zeros(len(prompts), dtype=torch.int64),
        )

    def next_chunk(
        self,
        state: OfficialState,
        poses: Float[Tensor, "b f 4 4"],
        intrinsics: Float[Tensor, "b f 4"] | None = None,
    ) -> tuple[Float[Tensor, "b c t y x"], OfficialState]:
        """Latents of the next chunk, and the state after them but for decoder and refiner.

        Args:
            state: Left unchanged.
            poses: world_from_camera of the chunk's pictures [m], float64.
            intrinsics: fx, fy, cx, cy of these pictures [px]; None goes on with the last ones.

        Returns:
            Latents, that of the first picture in front of the first chunk's.
        """
        begins = int(state.steps[0]) == 0
        network, size = self.parts.network, self.screen
        state = follow(state, self.sampling.reach)
        local = invert_rigid(state.origin)[:, None] @ poses
        geometry: dict[str, Any] = {
            "image_size": size.picture, "grid": size.grid, "config": network.config,
        }  # fmt: skip
        if begins:
            here = torch.eye(4, dtype=local.dtype).expand(len(local), 1, 4, 4)
            lenses = state.intrinsics
            if intrinsics is not None:
                lenses = torch.cat([lenses[:, None], intrinsics], dim=1)
            camera = clip_camera(torch.cat([here, local], dim=1), lenses, **geometry)
        else:
            lenses = state.intrinsics if intrinsics is None else intrinsics
            camera = stream_camera(local, lenses, **geometry)
        camera = bring(camera, self.parts.device)
        unguided = None
        if state.null_network is not None and state.null_text is not None:
            unguided = Unguided(text=state.null_text, state=state.null_network)
        shape = (state.first.shape[1], camera.intrinsics.shape[1], *size.grid)
        fresh = self.sampling.next_level == "fresh_noise"
        noises = [
            bring(row_noise(state.seeds, state.steps, level, shape), self.parts.device)
            for level in range(len(self.sampling.timesteps) if fresh else 1)
        ]
        x, memory = self.draw(
            network,
            noises,
            state.first if begins else None,
            state.text,
            camera,
            replace(state.network, filled=_is_filled(state)),
            self.sampling,
            unguided,
        )
        null = None
        if unguided is not None:
            _, null = network.remember(x, unguided.text, camera, unguided.state)
            null = null.map(trim)
        return x, replace(
            state,
            network=memory,
            null_network=null,
            latent=x[:, :, -1],
            last_pose=poses[:, -1],
            intrinsics=state.intrinsics if intrinsics is None else intrinsics[:, -1],
            steps=state.steps + 1,
        )

    def refine(
        self,
        draft: Float[Tensor, "b c t y x"],
        clock: tuple[Int[Tensor, " b"], Int[Tensor, " b"]],
        memory: RefinerState | None,
    ) -> tuple[Float[Tensor, "b c t y x"], RefinerState | None]:
        """What is shown of a chunk's draft, and the refiner's memory after it.

        Args:
            draft: Of `next_chunk`.
            clock: Seed and step of every row, for the noise.
            memory: Of the refiner; None shows the draft.
        """
        if memory is None:
            return draft, None
        refiner = self.parts.refiner
        assert refiner is not None
        # The first picture's own latent is the refiner's sink: it goes through as it is.
        given = draft.shape[2] - self.parts.network.config.chunk_size
        noise = row_noise(*clock, _REFINER_PURPOSE, tuple(draft.shape[1:]))
        noise = bring(noise, self.parts.device)
        with present(refiner, self.parts.device):
            drawn, after = refine_block(refiner, draft[:, :, given:], noise[:, :, given:], memory)
        return torch.cat([draft[:, :, :given], drawn], dim=2), after

    def show(
        self, latents: Float[Tensor, "b c t y x"], decoder: tuple[Tensor, ...]
    ) -> tuple[Float[Tensor, "b 3 f h w"], tuple[Tensor, ...]]:
        """Pictures of a chunk without the one the stream began with, and the decoder's memory."""
        pixels, memory = self.parts.autoencoder.decode_step(latents, decoder or None)
        return pixels[:, :, pixels.shape[2] - self.frames_per_chunk :], memory

    def whole(
        self,
        state: OfficialState,
        poses: Float[Tensor, "b f 4 4"],
        on_step: OnStep | None = None,
        intrinsics: Float[Tensor, "b f 4"] | None = None,
    ) -> Float[Tensor, "b c t y x"]:
        """Latents of a clip, drawn chunk by chunk.

        Args:
            state: Of `begin`.
            poses: world_from_camera of all pictures after the first [m], in whole chunks.
            on_step: Called after every chunk.
            intrinsics: fx, fy, cx, cy of these pictures [px], where the lens zooms.
        """
        size = self.frames_per_chunk
        chunks = poses.split(size, dim=1)
        parts = []
        for i, chunk in enumerate(chunks):
            zoom = None if intrinsics is None else intrinsics[:, i * size : (i + 1) * size]
            x, state = self.next_chunk(state, chunk, zoom)
            parts.append(x)
            if on_step is not None:
                on_step(i + 1, len(chunks), x)
        return torch.cat(parts, dim=2)


def _is_filled(state: OfficialState) -> bool:
    """Whether every slot of every row's attention windows holds something."""
    slots = window_length(state.network)
    if slots == 0:
        return False
    return bool(window_valid(state.steps, slots, state.network.config).all())
