"""How a released network is sampled: its schedule, its guidance, its text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SamplingMode = Literal["bidirectional", "chunk_causal", "streaming"]

INSTRUCTION = (
    'Given a user prompt, generate an "Enhanced prompt" that provides detailed visual descriptions '
    "suitable for image generation. Evaluate the level of detail in the user prompt:",
    "- If the prompt is simple, focus on adding specifics about colors, shapes, sizes, textures, "
    "and spatial relationships to create vivid and concrete scenes.",
    "- If the prompt is already detailed, refine and enhance the existing details slightly without "
    "overcomplicating.",
    "Here are examples of how to transform or refine prompts:",
    "- User Prompt: A cat sleeping -> Enhanced: A small, fluffy white cat curled up in a round "
    "shape, sleeping peacefully on a warm sunny windowsill, surrounded by pots of blooming red "
    "flowers.",
    "- User Prompt: A busy city street -> Enhanced: A bustling city street scene at dusk, "
    "featuring glowing street lamps, a diverse crowd of people in colorful clothing, and a "
    "double-decker bus passing by towering glass skyscrapers.",
    "Please generate only the enhanced description for the prompt below and avoid including any "
    "additional commentary or evaluations:",
    "User Prompt: ",
)
"""Data of the release (`text_encoder.chi_prompt` of its config.yaml): the network has read these
very lines before every prompt, so they are part of its weights as it were."""


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How clips are drawn from noise."""

    mode: SamplingMode = "bidirectional"
    """What the network was trained for. "bidirectional": a whole clip, every frame seeing all.
    "chunk_causal": a whole clip, chunks starting one after the other (staggered). "streaming":
    chunk after chunk with a memory."""
    num_steps: int = 60
    """Steps of the first two modes, >= 1."""
    solver: Literal["euler", "flow_dpm-solver"] = "euler"
    """Bidirectional: how a step is taken. "euler" is the released command's; "flow_dpm-solver", of
    order 2 and with levels of its own (`dpm_solver`), is what the released config.yaml names."""
    shift: float = 9.8
    """Shift of their noise levels, > 0. 9.8 is `inference_flow_shift` of the released config.yaml,
    8.0 what the release's benchmark guide says; training had 9.95."""
    guidance: float = 5.0
    """Classifier-free guidance s in v_null + s (v_text - v_null), >= 1; 1 is without. In streaming
    a second memory, of the negative prompt, is kept beside, and every step costs twice; the
    released student was taught guided velocities and wants 1."""
    interval: float | None = None
    """Chunk-causal: start of chunk c is step floor(c * interval * num_steps), > 0. None is 1 /
    chunks, as the released command has it; the class behind it has 0.5 as default."""
    timesteps: tuple[float, ...] = (1000.0, 960.0, 889.0, 727.0)
    """Streaming: timesteps denoised at, falling from at most 1000, without the final 0. These are
    shift 8 of 1, 3/4, 1/2, 1/4; a student of other noise levels brings its own."""
    next_level: Literal["euler", "fresh_noise"] = "euler"
    """Streaming: how the next lower level is reached. "euler" goes on along the velocity with the
    noise there is, as the released inference code does; "fresh_noise" mixes new noise into the
    predicted clean latents, as the student's training and its rollouts do."""
    reach: float | None = 64.0
    """Streaming: distance of the camera from the origin beyond which the origin moves under it, > 0
    (see `reanchor`), in the network's unit of length, a metre as released. 64 is further than a
    minute at walking pace goes, so that what the network was trained for is as released; None never
    moves it."""
    negative_prompt: str = ""
    """What guidance leads away from."""
    instruction: tuple[str, ...] = INSTRUCTION
    """Lines before every prompt, joined by newlines; empty for none. Not before the negative."""
    max_tokens: int = 300
    """Text tokens the network reads, >= 2."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.mode not in ("bidirectional", "chunk_causal", "streaming"):
            raise ValueError(
                f"got mode={self.mode!r}, expected bidirectional, chunk_causal or streaming"
            )
        if self.num_steps < 1 or self.max_tokens < 2:
            raise ValueError(
                f"got num_steps={self.num_steps}, max_tokens={self.max_tokens}; expected at least "
                "1 step and 2 tokens"
            )
        if not self.shift > 0 or not self.guidance >= 1:
            raise ValueError(
                f"got shift={self.shift}, guidance={self.guidance}; expected shift > 0 and "
                "guidance >= 1 (1 is without)"
            )
        if self.reach is not None and not self.reach > 0:
            raise ValueError(f"got reach={self.reach}, expected > 0 or None")
        if self.interval is not None and not self.interval > 0:
            raise ValueError(f"got interval={self.interval}, expected > 0 or None")
        levels = list(self.timesteps)
        falling = levels == sorted(set(levels), reverse=True)
        if not levels or not falling or levels[-1] <= 0 or levels[0] > 1000:
            raise ValueError(
                f"got timesteps={self.timesteps}, expected falling ones within (0, 1000] without "
                "the final 0"
            )
        if self.solver not in ("euler", "flow_dpm-solver"):
            raise ValueError(f"got solver={self.solver!r}, expected euler or flow_dpm-solver")
        if self.solver != "euler" and self.mode != "bidirectional":
            raise ValueError(
                f"got solver={self.solver!r} for {self.mode}, expected euler: the other one keeps "
                "its last prediction, and only a bidirectional clip has all frames at one level"
            )
        if self.next_level not in ("euler", "fresh_noise"):
            raise ValueError(f"got next_level={self.next_level!r}, expected euler or fresh_noise")


BIDIRECTIONAL = SamplingConfig()
"""`SANA-WM_bidirectional`."""
CHUNK_CAUSAL = SamplingConfig(mode="chunk_causal")
"""`SANA-WM_chunk_causal`, the teacher."""
STREAMING = SamplingConfig(mode="streaming", shift=8.0, guidance=1.0)
"""`SANA-WM_streaming`, the student of four steps."""
PRESETS = {preset.mode: preset for preset in (BIDIRECTIONAL, CHUNK_CAUSAL, STREAMING)}
