"""Configuration of the stage-2 refiner and its two presets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RELEASED_SIGMAS = (0.909375, 0.725, 0.421875)
"""Noise levels of the released distilled refiner, without the final 0: three Euler steps."""


@dataclass(frozen=True, kw_only=True)
class RefinerConfig:
    """Shape, clock and sampler of one refiner.

    The names of weights are those of LTX-2's video transformer in diffusers, so that released
    weights load as they are once their audio half is left out (`weights.video_half`).
    """

    in_channels: int = 128
    """Latent channels in and out; one token a latent cell."""
    num_layers: int = 48
    """Blocks, >= 1."""
    num_attention_heads: int = 32
    """Heads of self and cross attention, >= 1."""
    head_dim: int = 128
    """Channels of a head, even; the width is heads times this."""
    caption_channels: int = 3840
    """Channels of the text features."""
    mlp_ratio: int = 4
    """Width of the feed-forward layer over that of the stream, >= 1; LTX-2 has 4."""
    gated_attention: bool = False
    """A gate 2 sigmoid(.) for every head of both attentions, as in LTX-2.3."""
    norm_eps: float = 1e-6
    """Of all RMS norms."""
    strides: tuple[int, int, int] = (8, 32, 32)
    """Raw frames, rows and columns of pixels a latent cell stands for."""
    fps: float = 16.0
    """Raw frames a second, which turns frames into the seconds of the rotary time axis."""
    max_position: tuple[float, float, float] = (20.0, 2048.0, 2048.0)
    """Seconds, rows [px] and columns [px] that the rotary axes were scaled for."""
    rope_theta: float = 10000.0
    """Ratio of the fastest to the slowest rotary frequency."""
    positions: Literal["absolute", "window"] = "absolute"
    """Where frames stand in time. "absolute": at their index in the video, as in the released
    model. "window": counted from the sink, which is the same until the window is full and then
    stops growing; ours, for streams without end, whose absolute angles would outgrow float32."""
    block_frames: int = 3
    """Latent frames refined together, >= 1."""
    window_frames: int = 11
    """Latent frames before and in front of a block that are kept: the sink and the newest refined
    ones, > `sink_frames`."""
    sink_frames: int = 1
    """Latent frames at the beginning of the video that are never refined nor forgotten, >= 1."""
    sigmas: tuple[float, ...] = RELEASED_SIGMAS
    """Noise levels of the Euler steps, falling, within (0, 1], without the final 0. The first is
    sigma_s, at which refinement begins and up to which the refiner is trained; a finished refiner
    may begin lower, which keeps more of the draft."""

    def __post_init__(self) -> None:
        """Check the fields against each other."""
        for name in (
            "in_channels", "num_layers", "num_attention_heads", "caption_channels", "mlp_ratio",
            "block_frames", "sink_frames",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.head_dim < 2 or self.head_dim % 2:
            raise ValueError(f"head_dim must be even, got {self.head_dim}")
        if self.width < 6:
            raise ValueError(f"got a width of {self.width}, expected 6 or more: three rotary axes")
        if self.window_frames <= self.sink_frames:
            raise ValueError(
                f"got window_frames={self.window_frames}, expected more than sink_frames="
                f"{self.sink_frames}"
            )
        levels = self.sigmas
        falling = list(levels) == sorted(set(levels), reverse=True)
        if not levels or not falling or levels[-1] <= 0 or levels[0] > 1:
            raise ValueError(f"sigmas must fall within (0, 1] without repeats, got {levels}")

    @property
    def width(self) -> int:
        """Channels of the token stream."""
        return self.num_attention_heads * self.head_dim

    @property
    def history_frames(self) -> int:
        """Refined latent frames kept beside the sink."""
        return self.window_frames - self.sink_frames


LTX2_REFINER = RefinerConfig()
"""The released refiner: LTX-2's video half, 48 blocks of width 4096."""

DRIVE_REFINER = RefinerConfig(
    in_channels=16,
    num_layers=4,
    num_attention_heads=4,
    head_dim=32,
    caption_channels=64,
    strides=(4, 8, 8),
    max_position=(2.0, 72.0, 128.0),
    # The fastest turn is half a circle a column: faster ones cannot be told from slower ones.
    rope_theta=16.0,
    positions="window",
    block_frames=1,
    window_frames=4,
    sigmas=(0.4, 0.25, 0.12),
)
"""A refiner for the bundled world: one latent frame a decision, pictures of 128x72."""
