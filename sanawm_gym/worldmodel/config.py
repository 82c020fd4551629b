"""Configuration of the stage-1 SANA-WM network and its two presets.

The sources of the model (the paper, the released code and its ports) disagree in a few places.
Every such point is one named switch below, documented with the sources on each side; nothing else
in the network branches on where a formula came from.
"""

from dataclasses import dataclass
from typing import Literal

ChunkSplit = Literal["first_chunk_plus_one", "uniform"]
KeyScaleMode = Literal["dim_spatial", "dim", "none"]


@dataclass(frozen=True, kw_only=True)
class SanaWMConfig:
    """Shape, causality and switches of one SANA-WM network.

    Attributes:
        in_channels: Latent channels in and out.
        num_layers: Blocks.
        hidden_size: Width C of the token stream.
        num_attention_heads: Heads of self and cross attention; the head dimension D = C / heads
            must be a multiple of 8 (half of a head is groups of four, the other half pairs).
        softmax_every_n: Block i (from 0) is a softmax block when (i + 1) % n == 0; 0 means none.
        mlp_ratio: Width of the gated MLP over C.
        t_kernel_size: Temporal kernel of the MLP; only 3 is defined by the model.
        conv_kernel_size: Temporal kernel of the short convolution on keys, >= 1.
        caption_channels: Channels of the text features.
        text_length: Length of the null caption buffer, tokens.
        null_caption_buffer: Keep the `y_embedder.y_embedding` buffer of the original checkpoint
            layout (the diffusers layout has none).
        plucker_channels: 6 numbers per raw frame times `temporal_stride`.
        temporal_stride: Raw frames per latent frame.
        chunk_size: Latent frames per chunk of the causal modes.
        chunk_split: "first_chunk_plus_one" makes the first chunk one frame longer (the first latent
            is a picture, not a clip); "uniform" does not.
        num_cached_chunks: Past chunks that softmax attention sees, the sink chunk included; -1
            keeps all. The released streaming setting is 2 with a sink.
        sink: Keep the beginning of the video visible for ever.
        sink_length: How much of it: "first_chunk" as in the released code, "first_frame" as in the
            paper. The two agree where the first chunk is one frame.
        shifted_sink: Let the sink travel with the moving origin, as if it stood one frame before
            the sliding part of the window and had been seen from where the camera is now, instead
            of staying where and when it was seen: it then says what the drive looked like as it
            began, however far that is behind. In the way of the refiner's shifted sink; needs
            chunks of one frame.
        ucpe: Let the camera branch of self-attention (rays) take part. False leaves it out for
            ablations; its parameters stay in the checkpoint and are never read.
        plucker: The same for the Plücker maps, which every block adds to its tokens.
        ucpe_rms_clamp_gdn: Scale UCPE-transformed q, k, v of GDN blocks back to their RMS before
            the transform. On in diffusers, vllm-omni, SGLang and the torch reference class; off in
            the fused kernels that released configurations name for training and inference.
        ucpe_rms_clamp_softmax: The same in softmax blocks. On in diffusers, off in the official
            code.
        softmax_camera_scale: Logit scale of the camera branch in softmax blocks. "padded" is
            1/sqrt of the head dimension after padding to a flash-attention size (112 -> 128; in
            diffusers and the first official release); "head_dim" is 1/sqrt(D) (the new release).
        softmax_main_scale: The same for the main branch. "head_dim" everywhere but in the first
            official streaming code, which pads here too.
        denominator_eps: Added to the mass that divides the main branch of GDN blocks, > 0. The
            blocks of the official code pass 1e-8; its attention class alone would take 1e-15.
        key_scale_mode: GDN keys times 1/sqrt(D*S) ("dim_spatial", the released one), 1/sqrt(D)
            ("dim") or 1 ("none").
        rope_dtype: Precision of rotary tables and products: "float32" in diffusers, "float64" in
            the official code.
        camera_unit_m: Metres that count as 1 in UCPE and Plücker translations.
        camera_state_limit: Largest entry that a head's camera matrix keeps when the origin moves; a
            matrix beyond it is scaled down as a whole. Ours, for drives far longer than any
            training clip: what lies behind grows with the square of its distance, and a drive
            straight on can outrun the gates. None never scales.
        plucker_first_group: Raw frames packed with latent 0: "lookahead" takes 0..stride-1 as the
            official code does; "repeat" takes frame 0 every time, since a closed loop cannot look
            ahead.
        warp_condition: Show the network, beside the noisy latents, the latents of the last picture
            carried over the ground plane (`ground_warp`). Ours; the released model has none.
        warp_sharpening: How much of what a small blur takes from a drawn picture is added to it
            before it is warped, per metre that the camera then moves, >= 0. A stream that redraws
            its own pictures loses a little of every edge on the way; this puts it back.
        prediction: What the last layer stands for. "velocity" is the released one. "x_0": it is the
            clean latent (with `warp_condition`, what to add to the warped one), from which the
            velocity follows as (x_sigma - x_0) / sigma; a small network then need not carry the
            noise through its width. [Li and He 2025, arXiv 2511.13720]
        init_beta_bias: Start of the write gate's bias; 5 writes with strength 0.993 (official).
        init_dt_bias: Start of the decay bias, spread evenly over the heads from first to second
            value. A head keeps exp(-softplus(dt)) of its memory per frame: -5 keeps 0.993
            (official), -1 keeps 0.73.
    """

    in_channels: int
    num_layers: int
    hidden_size: int
    num_attention_heads: int
    caption_channels: int
    plucker_channels: int
    softmax_every_n: int = 4
    mlp_ratio: float = 3.0
    t_kernel_size: int = 3
    conv_kernel_size: int = 4
    text_length: int = 300
    null_caption_buffer: bool = False
    temporal_stride: int = 8
    chunk_size: int = 3
    chunk_split: ChunkSplit = "first_chunk_plus_one"
    num_cached_chunks: int = 2
    sink: bool = True
    sink_length: Literal["first_chunk", "first_frame"] = "first_chunk"
    shifted_sink: bool = False
    ucpe: bool = True
    plucker: bool = True
    ucpe_rms_clamp_gdn: bool = False
    ucpe_rms_clamp_softmax: bool = False
    softmax_camera_scale: Literal["padded", "head_dim"] = "padded"
    softmax_main_scale: Literal["padded", "head_dim"] = "head_dim"
    denominator_eps: float = 1e-8
    key_scale_mode: KeyScaleMode = "dim_spatial"
    rope_dtype: Literal["float32", "float64"] = "float32"
    camera_unit_m: float = 1.0
    plucker_first_group: Literal["lookahead", "repeat"] = "lookahead"
    camera_state_limit: float | None = None
    warp_condition: bool = False
    warp_sharpening: float = 0.0
    prediction: Literal["velocity", "x_0"] = "velocity"
    init_beta_bias: float = 5.0
    init_dt_bias: tuple[float, float] = (-5.0, -5.0)

    def __post_init__(self) -> None:
        """Check the fields against each other."""
        if self.hidden_size % self.num_attention_heads or self.head_dim % 8:
            raise ValueError(
                f"got hidden_size={self.hidden_size} and num_attention_heads="
                f"{self.num_attention_heads}; expected a head dimension that is a multiple of 8. "
                "Change one of the two."
            )
        if self.plucker_channels != 6 * self.temporal_stride:
            raise ValueError(
                f"got plucker_channels={self.plucker_channels}, expected 6 * temporal_stride = "
                f"{6 * self.temporal_stride}."
            )
        if self.t_kernel_size != 3:
            raise ValueError(f"got t_kernel_size={self.t_kernel_size}, only 3 is defined.")
        if self.conv_kernel_size < 1 or self.chunk_size < 1:
            raise ValueError(
                f"got conv_kernel_size={self.conv_kernel_size}, chunk_size={self.chunk_size}; "
                "both must be at least 1."
            )
        if self.num_cached_chunks < -1 or (self.sink and self.num_cached_chunks == 0):
            raise ValueError(
                f"got num_cached_chunks={self.num_cached_chunks} with sink={self.sink}; expected "
                "-1 (all), or at least 0 (at least 1 with a sink)."
            )
        if self.shifted_sink and (self.sink_frames != 1 or self.recent_chunks < 0):
            raise ValueError(
                f"got shifted_sink with {self.sink_frames} sink frames and num_cached_chunks="
                f"{self.num_cached_chunks}; expected one sink frame and a limited window."
            )
        if self.camera_state_limit is not None and not self.camera_state_limit > 0:
            raise ValueError(
                f"got camera_state_limit={self.camera_state_limit}, expected None or > 0."
            )
        if not self.warp_sharpening >= 0:
            raise ValueError(f"got warp_sharpening={self.warp_sharpening}, expected >= 0.")
        if not self.denominator_eps > 0:
            raise ValueError(f"got denominator_eps={self.denominator_eps}, expected > 0.")
        if not self.camera_unit_m > 0:
            raise ValueError(f"got camera_unit_m={self.camera_unit_m}, expected > 0 metres.")

    @property
    def head_dim(self) -> int:
        """Channels per head, D."""
        return self.hidden_size // self.num_attention_heads

    @property
    def mlp_width(self) -> int:
        """Channels of one half of the gated MLP."""
        return int(self.hidden_size * self.mlp_ratio)

    @property
    def first_chunk_size(self) -> int:
        """Latent frames of the first chunk."""
        return self.chunk_size + int(self.chunk_split == "first_chunk_plus_one")

    @property
    def sink_frames(self) -> int:
        """Latent frames that a softmax block keeps for ever."""
        if not self.sink or self.num_cached_chunks <= 0:
            return 0
        return self.first_chunk_size if self.sink_length == "first_chunk" else 1

    @property
    def recent_chunks(self) -> int:
        """Chunks in the sliding part of the softmax window; -1 when nothing is dropped."""
        if self.num_cached_chunks < 0:
            return -1
        return self.num_cached_chunks - int(self.sink)

    @property
    def num_recent_frames(self) -> int:
        """Latent frames in the sliding part of the softmax window; -1 when nothing is dropped."""
        if self.recent_chunks < 0:
            return -1
        return self.recent_chunks * self.chunk_size

    @property
    def sink_shift(self) -> int:
        """Added to the frame index of a shifted sink, which puts it right before the window."""
        return -(self.num_recent_frames + 1)

    def is_softmax_block(self, index: int) -> bool:
        """Whether block `index` (from 0) attends by softmax instead of the recurrence."""
        return self.softmax_every_n > 0 and (index + 1) % self.softmax_every_n == 0


SANA_WM_2B6 = SanaWMConfig(
    in_channels=128,
    num_layers=20,
    hidden_size=2240,
    num_attention_heads=20,
    caption_channels=2304,
    plucker_channels=48,
)
"""The released 2.6 B network: 704x1280 pixels, latents of stride 8 in time and 32 in space."""

DRIVE = SanaWMConfig(
    in_channels=16,
    num_layers=4,
    hidden_size=160,
    num_attention_heads=5,
    caption_channels=64,
    text_length=32,
    temporal_stride=4,
    plucker_channels=24,
    chunk_size=1,
    chunk_split="uniform",
    num_cached_chunks=4,
    shifted_sink=True,
    softmax_camera_scale="head_dim",
    camera_unit_m=10.0,
    camera_state_limit=3e4,
    plucker_first_group="repeat",
    warp_condition=True,
    warp_sharpening=0.08,
    prediction="x_0",
    init_beta_bias=2.0,
    init_dt_bias=(-4.0, -0.5),
)
"""The bundled driving network: one latent frame (4 raw frames) per decision, moving origin."""
