"""The released refiner as a part of a world: LTX-2's video half, its text, its two ways to run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from sanawm_gym.worldmodel.folder import read_json
from sanawm_gym.worldmodel.refiner import Refiner
from sanawm_gym.worldmodel.refiner.weights import config_from_ltx2, video_half

from .layout import REFINER_FOLDERS, weight_files
from .load import fill_module
from .refiner_text import Gemma3Text
from .tensors import TensorSource, open_tensors

RefineMode = Literal["no", "blocks", "at_once"]
"""How a draft is refined: not at all; in blocks with a memory, as the streaming release; or the
whole clip at once with the first frame as sink, as the bidirectional release does by default."""


def refiner_folder(release: Path, given: str | None = None) -> Path:
    """Where the refiner lies.

    Args:
        release: Folder of the release.
        given: Folder that counts instead of the release's own.

    Raises:
        ValueError: If there is none.
    """
    if given is not None:
        if not (Path(given) / "transformer" / "config.json").is_file():
            raise ValueError(
                f"refiner: got {given}, which holds none: expected a folder with transformer/ and "
                "connectors/, such as refiner/ of SANA-WM_bidirectional"
            )
        return Path(given)
    for name in REFINER_FOLDERS:
        if (release / name / "transformer" / "config.json").is_file():
            return release / name
    raise ValueError(
        f"{release} has no refiner: expected one of {list(REFINER_FOLDERS)} with a transformer/ in "
        "it; give refiner=FOLDER, or refine='no'"
    )


def load_released_refiner(
    folder: Path,
    *,
    fps: float,
    places: tuple[torch.device | str, torch.device | str | None] = ("cpu", None),
    dtype: torch.dtype = torch.float32,
) -> Refiner:
    """The network of `transformer/` without its audio half, which nothing reads here.

    Args:
        folder: Folder of the refiner.
        fps: Pictures a second.
        places: Where the weights shall lie, and where those of the blocks if elsewhere.
        dtype: What they are cast to.

    Raises:
        ValueError: If the files describe another network, or tensors are missing or surplus.
    """
    config = config_from_ltx2(read_json(folder / "transformer" / "config.json"), fps=fps)
    with torch.device("meta"):
        refiner = Refiner(config)
    source = open_tensors(weight_files(folder / "transformer"))
    # Names alone decide what is sound: nothing of it is read.
    names = video_half({name: torch.empty(0, device="meta") for name in source.shapes})
    video = TensorSource(
        origin=source.origin,
        shapes={name: source.shapes[name] for name in names},
        read=source.read,
    )
    fill_module(refiner, video, device=places[0], dtype=dtype, blocks_device=places[1])
    return refiner.eval().requires_grad_(False)


def load_refiner_text(
    release: Path,
    folder: Path,
    *,
    device: torch.device | str,
    rest: torch.device | str,
    dtype: torch.dtype,
) -> Gemma3Text:
    """Text of the refiner: Gemma-3 of the release or of the refiner's folder, and connectors.

    Args:
        release: Folder of the release.
        folder: Folder of the refiner.
        device: Where it computes.
        rest: Where it waits between calls.
        dtype: Of its weights.
    """
    own = release / "gemma3_12b"
    text = own if own.is_dir() else folder / "text_encoder"
    return Gemma3Text.from_folders(
        text, folder / "connectors", device=device, rest=rest, dtype=dtype
    )
