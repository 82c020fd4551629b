"""What is said of released weights only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ReleaseConfig:
    """Released SANA-WM weights: where their parts lie. Other worlds take nothing of it."""

    offload: Literal["no", "parts", "blocks"] = "no"
    """What waits in main memory until used: nothing, text encoders and refiner, or these and the
    network's blocks."""
    autoencoder: str | None = None
    """Folder of the autoencoder, for releases without one."""
    text: str | None = None
    """Folder or hub id of Gemma-2; else looked for in the release and on the hub."""
    refiner: str | None = None
    """Folder of the refiner; else looked for in the release."""
    width: int = 1280
    """Width of the pictures [px]; the released networks know 1280."""
    height: int = 704
    """Height of the pictures [px]; the released networks know 704."""
    steps: int | None = None
    """Denoising steps of networks that draw whole clips, at least 1; else what the release says."""
    guidance: float | None = None
    """Guidance scale of these, at least 1, which is none; else what the release says."""
    negative_prompt: str | None = None
    """What guidance leads away from; else what the release says."""
