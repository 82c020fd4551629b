"""The network on one frame of each stream, arranged for speed on a CPU.

`SanaWM` is written to be read and to be trained; a step of it on a small frame is hundreds of small
operations, and most of its time goes into starting them. `FusedNetwork` computes the same numbers
(up to rounding) with derived weights: maps of the same tokens side by side, products of weights in
a row multiplied out, and what does not change kept. It holds no parameters of its own, is made from
a finished network, and has to be made anew if those weights change.

A decision calls it several times with the same camera and the same past. What follows from these
alone is computed at the first call and found again by the identity of the two objects, which are
values and never change.

Axes: b rows, c latent channels, h and w of the latent grid, s = h w tokens, e width of the network.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..block import Block
from ..camera_condition import CameraCondition
from ..config import SanaWMConfig
from ..cross_attention import TextContext
from ..embed import LAYER_NORM_EPS, tokens
from ..flow import NUM_TIMESTEPS, velocity_of
from ..frame_pass import FramePass, build_pass
from ..model import SanaWM
from ..state import SanaWMState
from ..ucpe import MAX_DENSE_HEAD
from .block import BlockNew, BlockPast, FusedBlock, Words
from .geometry import Geometry
from .packed import PackedLinear


class Shared(NamedTuple):
    """What the passes of a decision read in common.

    Attributes:
        geometry: Codes of the tokens.
        warped: What the warped picture adds to the tokens, or None.
        lines: What the Plücker map adds in every block, or None.
        past: What the memory of every block means to the frame.
    """

    geometry: Geometry
    warped: Float[Tensor, "b s e"] | None
    lines: tuple[Float[Tensor, "b s e"], ...] | None
    past: tuple[BlockPast, ...]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A decision's `Shared`, what it was made from, and the layout of its passes."""

    camera: CameraCondition
    state: SanaWMState
    frames: FramePass
    shared: Shared


@dataclass(frozen=True, kw_only=True)
class Modulation:
    """What a timestep sets: of every block (shift, 1 + scale, gate, twice) and the last layer."""

    blocks: tuple[Float[Tensor, "6 e"], ...]
    final: Float[Tensor, "2 e"]


def why_not_fused(config: SanaWMConfig) -> str | None:
    """What of a network the fused form does not know; None if it knows all."""
    reasons = {
        "chunks of several frames": config.chunk_size != 1 or config.first_chunk_size != 1,
        "an unlimited window": config.recent_chunks < 0,
        "no ray branch": not config.ucpe,
        "clamped rays": config.ucpe_rms_clamp_gdn or config.ucpe_rms_clamp_softmax,
        "float64 rotary codes": config.rope_dtype != "float32",
        f"heads wider than {MAX_DENSE_HEAD}": config.head_dim > MAX_DENSE_HEAD,
    }
    return next((name for name, applies in reasons.items() if applies), None)


class FusedNetwork:
    """`SanaWM.step` and `SanaWM.remember` for streams of single frames.

    Args:
        network: Where the weights come from; not changed.
        exportable: Use only what a tracer of real tensors understands, and the same tensors at
            every call; slower.

    Raises:
        ValueError: If the network has parts that this form does not know.
    """

    def __init__(self, network: SanaWM, *, exportable: bool = False) -> None:
        reason = why_not_fused(network.config)
        if reason is not None:
            raise ValueError(
                f"got a network with {reason}, expected one that the fused form knows; "
                "use backend='plain'"
            )
        packed = not exportable
        self.config = network.config
        self._exportable = exportable
        self._network = network
        self._dtype = network.dtype
        blocks = [block for block in network.blocks if isinstance(block, Block)]
        self.blocks = [FusedBlock(block, packed=packed) for block in blocks]
        x_embedder, final = network.x_embedder, network.final_layer
        self._embed = PackedLinear(x_embedder.matrix, x_embedder.proj.bias, packed=packed)
        self._head = PackedLinear(final.linear.weight, final.linear.bias, packed=packed)
        embed = network.plucker_embedder
        assert embed.proj.bias is not None
        injections = [block.plucker_proj for block in blocks]
        self._lines = PackedLinear(
            torch.cat([proj.weight @ embed.matrix for proj in injections]),
            torch.cat([proj.bias + proj.weight @ embed.proj.bias for proj in injections]),
            packed=packed,
        )
        self._modulations: dict[float, Modulation] = {}
        self._prepared: Prepared | None = None
        self._text: tuple[TextContext, tuple[Words, ...]] | None = None

    def step(
        self,
        x: Float[Tensor, "b c 1 h w"],
        timestep: Float[Tensor, "b 1"],
        text: TextContext,
        camera: CameraCondition,
        state: SanaWMState,
        *,
        update_state: bool,
    ) -> tuple[Float[Tensor, "b c 1 h w"], SanaWMState]:
        """As `SanaWM.step`; all rows at one timestep."""
        level, prepared = _only(timestep), self.prepare(camera, state)
        features, new = self._run(x.to(self._dtype), level, prepared.shared, self.words(text))
        out = self._final(features, level, state.grid)
        if self.config.prediction == "x_0":
            x_0 = out if camera.warped is None else out + camera.warped
            out = velocity_of(x.float(), x_0, timestep / NUM_TIMESTEPS)
        return out, self._advance(prepared, new) if update_state else state

    def remember(
        self,
        x: Float[Tensor, "b c 1 h w"],
        text: TextContext,
        camera: CameraCondition,
        state: SanaWMState,
    ) -> tuple[Float[Tensor, "b 1 s e"], SanaWMState]:
        """As `SanaWM.remember`."""
        prepared = self.prepare(camera, state)
        features, new = self._run(x.to(self._dtype), 0.0, prepared.shared, self.words(text))
        return features[:, None].to(self._dtype), self._advance(prepared, new)

    def prepare(self, camera: CameraCondition, state: SanaWMState) -> Prepared:
        """What follows from camera and memory alone, kept until it is asked for another pair."""
        kept = self._prepared
        if kept is not None and kept.camera is camera and kept.state is state:
            return kept
        if camera.known is not None and not bool(camera.known.all()):
            raise ValueError(
                "got rows whose camera the network is not told (CameraCondition.known), expected "
                "every camera to be known in the fused form; use backend='plain'"
            )
        like = camera.intrinsics.new_zeros(state.batch_size, 1, 1, *state.grid)
        frames = build_pass(like, camera, self.config, (1,), state=state, keep="last")
        warped, lines = None, None
        if self.config.warp_condition:
            assert camera.warped is not None
            embed = self._network.warp_embedder
            warped = embed(camera.warped.to(self._dtype))[:, 0].float()
        if self.config.plucker and camera.plucker is not None:
            added = self._lines(tokens(camera.plucker.to(self._dtype))[:, 0]).float()
            lines = tuple(added.chunk(len(self.blocks), dim=-1))
        past = zip(self.blocks, state.blocks, strict=True)
        shared = Shared(
            geometry=self._geometry(frames),
            warped=warped,
            lines=lines,
            past=tuple(block.past(memory) for block, memory in past),
        )
        prepared = Prepared(camera=camera, state=state, frames=frames, shared=shared)
        self._prepared = prepared
        return prepared

    def words(self, text: TextContext) -> tuple[Words, ...]:
        """The prompts as the blocks read them, kept until other prompts come."""
        if self._text is not None and self._text[0] is text:
            return self._text[1]
        hidden = text.values[0].new_zeros(text.mask.shape, dtype=torch.float32)
        hidden = hidden.masked_fill(~text.mask, float("-inf"))
        words = tuple(
            block.words(key, value, hidden)
            for block, key, value in zip(self.blocks, text.keys, text.values, strict=True)
        )
        self._text = (text, words)
        return words

    def modulation(self, level: float) -> Modulation:
        """Modulation of a timestep, computed once."""
        if level not in self._modulations:
            network = self._network
            timestep = torch.full((1, 1), level, device=network.final_layer.linear.weight.device)
            t = network.t_embedder(timestep)
            shared = network.t_block(t).unflatten(-1, (6, -1))[0, 0].float()
            blocks = tuple(block.table + shared for block in self.blocks)
            for table in blocks:
                table[[1, 4]] += 1
            final = network.final_layer.scale_shift_table.float() + t[0].float()
            final[1] += 1
            self._modulations[level] = Modulation(blocks=blocks, final=final)
        return self._modulations[level]

    def _geometry(self, frames: FramePass) -> Geometry:
        assert frames.rays is not None
        rotary = frames.rotary.transpose(1, 2)
        if self._exportable:
            rotary = torch.view_as_real(rotary)
        query, key_value, output = (x.flatten(0, 2) for x in frames.rays[:3])
        visible, hidden = frames.visible, None
        if visible is not None and (self._exportable or not bool(visible.all())):
            size = frames.grid[0] * frames.grid[1]
            seen = F.pad(visible, (0, 1), value=True).repeat_interleave(size, dim=1)
            hidden = torch.zeros(seen.shape, dtype=self._dtype, device=seen.device)
            hidden = hidden.masked_fill(~seen, float("-inf"))[:, None, None]
        return Geometry(rotary, query, key_value, output, hidden)

    def _run(
        self, x: Float[Tensor, "b c 1 h w"], level: float, shared: Shared, words: tuple[Words, ...]
    ) -> tuple[Float[Tensor, "b s e"], tuple[BlockNew, ...]]:
        """All blocks over the frame: tokens, float32, and what it adds to the memory."""
        grid = (int(x.shape[-2]), int(x.shape[-1]))  # numbers also while it is traced
        y = self._embed(tokens(x)[:, 0]).float()
        if shared.warped is not None:
            y = y + shared.warped
        modulation = self.modulation(level).blocks
        news = []
        for i, block in enumerate(self.blocks):
            lines = None if shared.lines is None else shared.lines[i]
            past = shared.past[i]
            y, new = block(y, modulation[i], lines, words[i], past, shared.geometry, grid)
            news.append(new)
        return y, tuple(news)

    def _final(
        self, y: Float[Tensor, "b s e"], level: float, grid: tuple[int, int]
    ) -> Float[Tensor, "b c 1 h w"]:
        shift, scale = self.modulation(level).final.unbind(0)
        normed = F.layer_norm(y, (y.shape[-1],), scale, shift, LAYER_NORM_EPS)
        out = self._head(normed.to(self._dtype)).float()
        frame: Tensor = out.unflatten(1, grid).permute(0, 3, 1, 2)[:, :, None]
        return frame

    def _advance(self, prepared: Prepared, news: tuple[BlockNew, ...]) -> SanaWMState:
        state, frames = prepared.state, prepared.frames
        blocks = tuple(
            block.advance(memory, new, frames)
            for block, memory, new in zip(self.blocks, state.blocks, news, strict=True)
        )
        return replace(
            state,
            frame_index=state.frame_index + 1,
            num_chunks=state.num_chunks + 1,
            blocks=blocks,
        )


def _only(timestep: Float[Tensor, "b 1"]) -> float:
    level = float(timestep[0, 0])
    assert bool((timestep == level).all()), "the fused form runs all rows at one timestep"
    return level
