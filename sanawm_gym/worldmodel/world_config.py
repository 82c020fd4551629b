"""What a world knows beside the weights of its parts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """What a world needs to know beside the weights of its parts."""

    width: int = 128
    """Width of the pictures [px]."""
    height: int = 72
    """Height of the pictures [px]."""
    fps: float = 16.0
    """Raw frames a second."""
    sigmas: tuple[float, ...] = (1.0,)
    """Noise levels the streaming sampler denoises at, falling from 1, without the final 0."""
    guidance: float = 1.0
    """Classifier-free guidance: how far to go from what an empty prompt gives, through what the
    prompt gives and beyond, >= 0. 1 draws what the prompt gives; other values take a second pass of
    the network a noise level."""
    still_way: float = 0.0
    """Way of the camera within a step [m] below which the next latent is mixed with the last, so
    that the picture of a camera at rest stands still, >= 0. A stream that redraws a standing
    picture over and over grows patterns in it."""

    def __post_init__(self) -> None:
        """Refuse an empty or rising schedule."""
        levels = self.sigmas
        if not levels or levels[0] != 1.0 or list(levels) != sorted(set(levels), reverse=True):
            raise ValueError(f"sigmas must fall from 1.0 without repeats, got {levels}")
        if not self.still_way >= 0:
            raise ValueError(f"got still_way={self.still_way}, expected metres >= 0")
        if not 0 <= self.guidance < float("inf"):
            raise ValueError(f"got guidance={self.guidance}, expected a finite number >= 0")
