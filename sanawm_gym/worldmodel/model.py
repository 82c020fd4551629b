"""SANA-WM, stage 1: a video diffusion transformer with per-frame timesteps and an exact camera.

One set of weights, three ways to run it: `forward` on a whole clip (bidirectional or chunk-causal),
`step` on the next chunk of a stream with an explicit state, and `unroll`, the clip form of many
steps at once that training uses. [SANA-WM, arXiv 2605.15178.]

Axes: b clips, c latent channels, t latent frames, h rows, w columns, l text tokens, s tokens of a
frame, e channels of a token.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .block import Block, BlockOutput, PluckerInput, Prompt
from .camera_condition import CameraCondition
from .chunks import Mode, chunk_sizes
from .config import SanaWMConfig
from .cross_attention import TextContext
from .embed import CaptionEmbed, FinalLayer, PatchEmbed, TimestepEmbed, tokens
from .empty_state import empty_state
from .flow import NUM_TIMESTEPS, velocity_of
from .frame_pass import FramePass, Keep, build_pass
from .initialise import initialise
from .ops.frame_gdn import ClipSlices
from .precision import RMSNorm, exact
from .state import BlockState, SanaWMState


class Unrolled(NamedTuple):
    """Result of `SanaWM.unroll`.

    Attributes:
        velocity: As repeated steps would have given it.
        states_before: State before each frame, rows (b t), in that frame's origin.
        state_after: State after the last frame, in the last frame's origin.
        features: What the last block left of every token, as `remember` gives it.
    """

    velocity: Float[Tensor, "b c t h w"]
    states_before: SanaWMState
    state_after: SanaWMState
    features: Float[Tensor, "b t s e"]


class _Passed(NamedTuple):
    """What one pass through all blocks leaves."""

    velocity: Float[Tensor, "b c t h w"]
    features: Float[Tensor, "b t s e"]
    last: tuple[BlockState, ...]
    every: tuple[BlockState, ...]


class SanaWM(nn.Module):
    """The network. Parameters are named and shaped as in the diffusers layout of the release.

    Attributes:
        config: Architecture.
        gradient_checkpointing: In training keep of each block only what enters it, and compute the
            block again in the backward pass.
    """

    def __init__(self, config: SanaWMConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.config = config
        self.gradient_checkpointing = False
        self.x_embedder = PatchEmbed(config.in_channels, width)
        self.t_embedder = TimestepEmbed(width)
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        null_length = config.text_length if config.null_caption_buffer else None
        self.y_embedder = CaptionEmbed(config.caption_channels, width, null_length)
        self.attention_y_norm = RMSNorm(width, eps=1e-5)
        self.plucker_embedder = PatchEmbed(config.plucker_channels, width)
        if config.warp_condition:
            self.warp_embedder = PatchEmbed(config.in_channels, width)
        # Dead weight of the release: used only by a variant without the Plücker branch.
        self.raymap_embedder = PatchEmbed(3, width)
        self.blocks = nn.ModuleList(Block(config, i) for i in range(config.num_layers))
        self.final_layer = FinalLayer(width, config.in_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise for training from scratch; see `initialise`."""
        initialise(self)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights, and of activations outside the recurrences."""
        return self.x_embedder.proj.weight.dtype

    def encode_text(self, text: Float[Tensor, "b l e"], mask: Bool[Tensor, "b l"]) -> TextContext:
        """Prepare prompts for all blocks.

        Args:
            text: Features of the text encoder.
            mask: True where a token counts.

        Raises:
            ValueError: If a prompt has no token at all.
        """
        if not bool(mask.any(dim=1).all()):
            raise ValueError(
                "got a prompt whose mask is all False; expected at least one text token a row "
                "(an empty prompt still has its start token)."
            )
        embedded = self.attention_y_norm(self.y_embedder(text.to(self.dtype)))
        pairs = [self._block(i).cross_attn.prepare(embedded) for i in range(len(self.blocks))]
        return TextContext(
            keys=tuple(key for key, _ in pairs),
            values=tuple(value for _, value in pairs),
            mask=mask[:, None, None],
        )

    def forward(
        self,
        x: Float[Tensor, "b c t h w"],
        timestep: Float[Tensor, "b t"],
        text: TextContext,
        camera: CameraCondition | None,
        *,
        mode: Mode = "bidirectional",
        slices: ClipSlices | None = None,
    ) -> Float[Tensor, "b c t h w"]:
        """Velocity of a whole clip.

        Args:
            x: Noisy latents.
            timestep: Noise level of each frame, 0 (clean) ... 1000 (noise).
            text: Prompts from `encode_text`.
            camera: Poses and rays, or None to leave both camera branches out.
            mode: "bidirectional", or "chunk_causal" with the config's chunks.
            slices: Ranks that hold the clip's frames; the arguments are then those of this one.
        """
        total = x.shape[2] if slices is None else slices.num_frames
        with exact(x.device):
            chunks = chunk_sizes(total, self.config, mode)
            frames = build_pass(x, camera, self.config, chunks, slices=slices)
        return self._run(x, timestep, text, camera, frames, None).velocity

    def initial_state(
        self,
        batch: int,
        height: int,
        width: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> SanaWMState:
        """State of streams that have seen nothing, by default in the network's dtype."""
        kept = self.dtype if dtype is None else dtype
        return empty_state(self.config, batch, (height, width), device, kept)

    def step(
        self,
        x: Float[Tensor, "b c n h w"],
        timestep: Float[Tensor, "b n"],
        text: TextContext,
        camera: CameraCondition | None,
        state: SanaWMState,
        *,
        update_state: bool,
    ) -> tuple[Float[Tensor, "b c n h w"], SanaWMState]:
        """Velocity of the next chunk of each stream.

        Denoising calls read the state (`update_state=False` returns it as it is); one last call on
        the finished chunk at timestep 0 writes it.

        Args:
            x: Latents of the chunk, all of one size; of the first chunk if the stream is new.
            timestep: Noise level of each frame.
            text: Prompts; its rows are those of x, or x holds groups of rows per prompt.
            camera: Condition of these frames in the state's origin, or None.
            state: Memory of the streams.
            update_state: Return the memory that includes this chunk.
        """
        keep: Keep = "last" if update_state else "nothing"
        passed, after = self._run_chunk(x, timestep, text, camera, state, keep)
        return passed.velocity, after

    def remember(
        self,
        x: Float[Tensor, "b c n h w"],
        text: TextContext,
        camera: CameraCondition | None,
        state: SanaWMState,
    ) -> tuple[Float[Tensor, "b n s e"], SanaWMState]:
        """The clean pass: make a finished chunk part of each stream's memory.

        As `step` at timestep 0 with `update_state=True`, but in place of the velocity, which says
        nothing there, comes what the last block left of every token: what `Heads` read.
        """
        clean = torch.zeros(x.shape[0], x.shape[2], device=x.device)
        passed, after = self._run_chunk(x, clean, text, camera, state, "last")
        return passed.features, after

    def unroll(
        self,
        x: Float[Tensor, "b c t h w"],
        timestep: Float[Tensor, "b t"],
        text: TextContext,
        camera: CameraCondition,
        state: SanaWMState,
        *,
        transport: Float[Tensor, "b t 4 4"] | None = None,
    ) -> Unrolled:
        """As t single-frame steps that all write the state, in one pass.

        Equals `step(..., update_state=True)` frame by frame; with `transport`, each step preceded
        by `state.reanchor(transport[:, i])`, so that every frame stands at index 0 of its own
        origin (`moving_camera` gives both arguments). A noisy copy of all frames can then be
        evaluated by one call `step(noisy as (b t) rows, ..., camera.frames_as_rows(),
        states_before)`.

        Args:
            x: Latents that the streams see, usually clean.
            timestep: Their noise levels, usually 0.
            text: Prompts.
            camera: Condition; of each frame in its own origin if `transport` is given.
            state: Memory before the first frame.
            transport: Maps coordinates of the origin before each frame to its own, metres.

        Raises:
            ValueError: If the network's chunks are not single frames or its window is unlimited, or
                it has a shifted sink and the origin does not move.
        """
        config = self.config
        if config.chunk_size != 1 or config.first_chunk_size != 1 or config.recent_chunks < 0:
            raise ValueError(
                f"got chunk_size={config.chunk_size}, chunk_split={config.chunk_split!r}, "
                f"num_cached_chunks={config.num_cached_chunks}; unroll needs uniform chunks of 1 "
                "and a limited window."
            )
        if config.shifted_sink and transport is None:
            raise ValueError(
                "got no transport, but the network has shifted_sink, which travels with the "
                "origin; expected the transport that `moving_camera` gives."
            )
        self._check_rows(x, text, state)
        num_frames = x.shape[2]
        with exact(x.device):
            frames = build_pass(
                x, camera, config, (1,) * num_frames, state=state, keep="every", transport=transport
            )
        passed = self._run(x, timestep, text, camera, frames, state)
        offset = torch.arange(num_frames, device=x.device)
        index = state.frame_index[:, None] + offset
        index = torch.zeros_like(index) if transport is not None else index
        before = replace(
            state,
            frame_index=index.flatten(),
            num_chunks=(state.num_chunks[:, None] + offset).flatten(),
            blocks=passed.every,
        )
        after = replace(
            state,
            frame_index=index[:, -1] + 1,
            num_chunks=state.num_chunks + num_frames,
            blocks=passed.last,
        )
        return Unrolled(passed.velocity, before, after, passed.features)

    def _check_rows(self, x: Tensor, text: TextContext, state: SanaWMState) -> None:
        rows, grid = x.shape[0], (x.shape[3], x.shape[4])
        if state.batch_size != rows or rows % text.batch_size or state.grid != grid:
            raise ValueError(
                f"got {rows} rows of latents on a {grid} grid with a state of {state.batch_size} "
                f"rows on {state.grid} and {text.batch_size} prompts; expected equal grids, equal "
                "rows, and prompts that divide them."
            )

    def _block(self, index: int) -> Block:
        block = self.blocks[index]
        assert isinstance(block, Block)
        return block

    def _run_chunk(
        self,
        x: Tensor,
        timestep: Tensor,
        text: TextContext,
        camera: CameraCondition | None,
        state: SanaWMState,
        keep: Keep,
    ) -> tuple[_Passed, SanaWMState]:
        self._check_rows(x, text, state)
        with exact(x.device):
            frames = build_pass(x, camera, self.config, (x.shape[2],), state=state, keep=keep)
        passed = self._run(x, timestep, text, camera, frames, state)
        if keep == "nothing":
            return passed, state
        index, seen = state.frame_index + x.shape[2], state.num_chunks + 1
        return passed, replace(state, frame_index=index, num_chunks=seen, blocks=passed.last)

    def _run(
        self,
        x: Tensor,
        timestep: Tensor,
        text: TextContext,
        camera: CameraCondition | None,
        frames: FramePass,
        state: SanaWMState | None,
    ) -> _Passed:
        y = self.x_embedder(x.to(self.dtype))
        warped = self._warped(camera)
        if warped is not None:
            y = y + self.warp_embedder(warped.to(self.dtype))
        t = self.t_embedder(timestep)
        t0 = self.t_block(t).unflatten(-1, (6, -1))
        plucker = None
        if self.config.plucker and camera is not None and camera.plucker is not None:
            plucker = PluckerInput(tokens(camera.plucker.to(self.dtype)), self.plucker_embedder)
        lasts, everys = [], []
        for i in range(len(self.blocks)):
            prompt = Prompt(text.keys[i], text.values[i], text.mask)
            memory = None if state is None else state.blocks[i]
            y, last, every = self._run_block(i, y, t0, prompt, plucker, frames, memory)
            if last is not None:
                lasts.append(last)
            if every is not None:
                everys.append(every)
        out = self.final_layer(y, t, frames.grid)
        if self.config.prediction == "x_0":
            x_0 = out if warped is None else out + warped
            out = velocity_of(x, x_0, timestep / NUM_TIMESTEPS)
        return _Passed(out, y, tuple(lasts), tuple(everys))

    def _run_block(self, index: int, *inputs: Any) -> BlockOutput:
        block = self._block(index)
        if not (self.gradient_checkpointing and torch.is_grad_enabled()):
            return cast(BlockOutput, block(*inputs))
        # Blocks draw no random numbers, so there is no generator to put back.
        again = checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)
        return cast(BlockOutput, again)

    def _warped(self, camera: CameraCondition | None) -> Tensor | None:
        if not self.config.warp_condition:
            return None
        if camera is None or camera.warped is None:
            raise ValueError(
                "got no warped picture, but this network has warp_condition; expected latents of "
                "the last picture over the ground plane in CameraCondition.warped."
            )
        return camera.warped
