"""The refiner: the video half of LTX-2's transformer, reading a window of what lies before.

A latent cell is a token; there is no patching. Every latent frame has a noise level of its own,
told as the timestep 1000 sigma, from which one map makes the shift, scale and gate of attention and
of the feed-forward layer for all blocks (AdaLN, six vectors), to which each block adds a table. The
output is the velocity (x_1 - x_h) / sigma_s of the path from a clean latent x_h to the noised draft
x_1.

Each pass refines one *block* of latent frames. Its queries see the sink (the first frames of the
video, never refined), the history (what was refined last) and the block, without a mask. Keys of
the past come from a pass of the finished block at sigma = 0, see `sampler`.

Sources: the SANA-WM report (arXiv 2605.15178, section on the refiner) and the LTX-2 report; names
and start values of weights as in diffusers' `LTX2VideoTransformer3DModel`, of which the audio half
is left out.

Axes: b rows, c latent channels, t latent frames of the block, y x latent grid, n = t y x tokens,
w width, l layers, h heads, d channels of a head.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .block import RefinerBlock, Window
from .config import RefinerConfig
from .embed import CaptionProjection, TimeEmbed
from .rotary import Rotation, rotate, rotation
from .state import RefinerState


class Refiner(nn.Module):
    """LTX-2-style video transformer that refines block after block.

    Args:
        config: Sizes, clock and sampler.
    """

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        """Compute blocks again in the backward pass instead of keeping what they made."""
        self.proj_in = nn.Linear(config.in_channels, config.width)
        self.time_embed = TimeEmbed(config.width)
        self.caption_projection = CaptionProjection(config)
        self.transformer_blocks = nn.ModuleList(
            RefinerBlock(config) for _ in range(config.num_layers)
        )
        self.scale_shift_table = nn.Parameter(torch.randn(2, config.width) / config.width**0.5)
        self.proj_out = nn.Linear(config.width, config.in_channels)

    @property
    def blocks(self) -> list[RefinerBlock]:
        """The blocks, typed."""
        return [block for block in self.transformer_blocks if isinstance(block, RefinerBlock)]

    def start(
        self,
        sink: Float[Tensor, "b c t y x"],
        features: Float[Tensor, "b m f"],
        mask: Bool[Tensor, "b m"],
    ) -> RefinerState:
        """State before the first block.

        Args:
            sink: The video's first latent frames, as many as `sink_frames`; they stay as they are.
            features: Text features.
            mask: True where a text token counts.

        Raises:
            ValueError: If the sink has another number of frames.
        """
        config, (b, _, t, *grid) = self.config, sink.shape
        if t != config.sink_frames:
            raise ValueError(f"got a sink of {t} latent frames, expected {config.sink_frames}")
        text = self.caption_projection(features.to(self.dtype))
        pairs = [block.attn2.keys_and_values(text) for block in self.blocks]
        keys, values = (torch.stack(part, dim=1) for part in zip(*pairs, strict=True))
        tokens = config.history_frames * math.prod(grid)
        shape = (b, config.num_layers, config.num_attention_heads)
        empty = keys.new_zeros(*shape, tokens, config.head_dim)
        nothing = empty[..., :0, :]
        count = torch.zeros(b, dtype=torch.int64)
        state = RefinerState(
            text_keys=keys, text_values=values, text_mask=mask, sink_keys=nothing,
            sink_values=nothing, history_keys=empty, history_values=empty, num_history=count,
            next_frame=count + t,
        )  # fmt: skip
        sink_keys, sink_values = self.capture(sink, self.alone(state, (grid[0], grid[1]), t))
        return RefinerState(
            **{**state.tensors(), "sink_keys": sink_keys, "sink_values": sink_values}
        )

    def alone(self, state: RefinerState, grid: tuple[int, int], num_frames: int) -> Window:
        """What the first latent frames of a video see beside themselves: the text."""
        nothing = state.history_keys[..., :0, :]
        at = torch.arange(num_frames, device=nothing.device).expand(state.batch_size, -1)
        return Window(state, nothing, nothing, None, rotation(at, grid, self.config))

    def window(self, state: RefinerState, grid: tuple[int, int], num_frames: int) -> Window:
        """What a block of so many latent frames sees of the past, turned to its place.

        The sink is moved to stand right before the history.
        """
        config, device = self.config, state.sink_keys.device
        held, sink, cells = int(state.num_history.max()), config.sink_frames, math.prod(grid)
        begin = (state.next_frame - state.num_history - sink)[:, None]
        origin = begin if config.positions == "window" else torch.zeros_like(begin)
        following = state.next_frame[:, None] - origin
        # Slots that a younger row does not fill have no frame; the mask hides them.
        history_at = (following - held + torch.arange(held)).clamp_min(0)
        past_at = torch.cat([begin - origin + torch.arange(sink), history_at], dim=1)
        first = state.history_keys.shape[3] - held * cells
        keys = torch.cat([state.sink_keys, state.history_keys[..., first:, :]], dim=3)
        values = torch.cat([state.sink_values, state.history_values[..., first:, :]], dim=3)
        turn = rotation(past_at.to(device), grid, config)
        by_layer = Rotation(turn.cos[:, None], turn.sin[:, None])
        mask = None
        if int(state.num_history.min()) < held:
            missing = held - state.num_history[:, None]
            exists = torch.arange(held) >= missing
            exists = torch.cat([torch.ones(len(exists), sink, dtype=torch.bool), exists], dim=1)
            mask = exists.repeat_interleave(cells, dim=1)[:, None, None].to(device)
        block_at = (following + torch.arange(num_frames)).to(device)
        return Window(state, rotate(keys, by_layer), values, mask, rotation(block_at, grid, config))

    def forward(
        self, x: Float[Tensor, "b c t y x"], sigma: Float[Tensor, "b t"], window: Window
    ) -> Float[Tensor, "b c t y x"]:
        """Velocity of a block at the noise levels of its frames, in the dtype of the weights."""
        hidden, embedded, _, _ = self._run(x, sigma, window)
        table = (self.scale_shift_table + embedded[:, :, None]).to(hidden.dtype)
        shift, scale = table.repeat_interleave(math.prod(x.shape[3:]), dim=1).unbind(dim=2)
        hidden = F.layer_norm(hidden, hidden.shape[-1:], eps=1e-6) * (1 + scale) + shift
        out: Tensor = self.proj_out(hidden)
        video: Tensor = out.unflatten(1, x.shape[2:])
        return video.permute(0, 4, 1, 2, 3)

    def capture(
        self, x: Float[Tensor, "b c t y x"], window: Window
    ) -> tuple[Float[Tensor, "b l h n d"], Float[Tensor, "b l h n d"]]:
        """Keys before rotation and values of a finished block, from a pass at sigma = 0."""
        clean = torch.zeros(x.shape[0], x.shape[2], device=x.device)
        _, _, keys, values = self._run(x, clean, window, keys_only=True)
        return torch.stack(keys, dim=1), torch.stack(values, dim=1)

    def remember(self, x: Float[Tensor, "b c t y x"], window: Window) -> RefinerState:
        """State after a finished block, which becomes history."""
        state, config, t = window.state, self.config, x.shape[2]
        keys, values = self.capture(x, window)
        kept = state.history_keys.shape[3]
        return RefinerState(
            **{
                **state.tensors(),
                "history_keys": torch.cat([state.history_keys, keys], dim=3)[..., -kept:, :],
                "history_values": torch.cat([state.history_values, values], dim=3)[..., -kept:, :],
                "num_history": (state.num_history + t).clamp_max(config.history_frames),
                "next_frame": state.next_frame + t,
            }
        )

    def _run(
        self, x: Tensor, sigma: Tensor, window: Window, keys_only: bool = False
    ) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
        """Stream behind the last block, embedded noise levels, keys and values of every layer."""
        hidden = self.proj_in(x.flatten(2).transpose(1, 2).to(self.dtype))
        modulation, embedded = self.time_embed(sigma)
        keys, values = [], []
        again = self.gradient_checkpointing and torch.is_grad_enabled()
        for layer, block in enumerate(self.blocks):
            last = layer + 1 == self.config.num_layers
            passed = (hidden, modulation, window, layer, keys_only and last)
            hidden, key, value = (
                checkpoint(block, *passed, use_reentrant=False) if again else block(*passed)
            )
            keys.append(key)
            values.append(value)
        return hidden, embedded, keys, values

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights."""
        return self.proj_in.weight.dtype
