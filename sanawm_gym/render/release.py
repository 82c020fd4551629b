"""What is said of released weights only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True, kw_only=True)
class ReleaseConfig:
    """Released SANA-WM weights: where their parts lie. Other worlds take nothing of it."""

    offload: Literal["no", "parts", "blocks"] = "no"
    """What waits in main memory until used: nothing, text encoders and refiner, or these and the
    network's blocks."""
    autoencoder: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder of the autoencoder, for releases without one."""
    text: Annotated[str | None, tyro.conf.arg(metavar="FOLDER|OWNER/NAME")] = None
    """Folder or hub id of Gemma-2; else looked for in the release and on the hub."""
    refiner: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder of the refiner; else looked for in the release."""
    width: int = 1280
    """Width of the pictures [px]; the released networks know 1280."""
    height: int = 704
    """Height of the pictures [px]; the released networks know 704."""
    refining: Literal["blocks", "at_once"] = "blocks"
    """With refine: block after block, as streams are released, or a whole clip at once, as the
    bidirectional release does."""
    formulas: Annotated[
        Literal["first_release", "first_streaming", "new_release", "diffusers"] | None,
        tyro.conf.arg(metavar="first_release|first_streaming|new_release|diffusers"),
    ] = None
    """Whose code to follow where the published sources differ (docs/official.md); else that which
    the weights were released with."""
    cuda_graphs: bool = False
    """Record the chunks of a stream as CUDA graphs. Needs a GPU."""
    compile: bool = False
    """Let torch compile the network's blocks: minutes at the beginning, other last digits."""
    steps: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Denoising steps of networks that draw whole clips, at least 1; else what the release says."""
    guidance: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    """Guidance scale of these, at least 1, which is none; else what the release says."""
    negative_prompt: Annotated[str | None, tyro.conf.arg(metavar="TEXT")] = None
    """What guidance leads away from; else what the release says."""
