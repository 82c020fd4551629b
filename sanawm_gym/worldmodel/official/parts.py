"""The networks of a released world, found in one folder or in several, loaded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from sanawm_gym.worldmodel.cross_attention import TextContext
from sanawm_gym.worldmodel.model import SanaWM
from sanawm_gym.worldmodel.refiner import Refiner
from sanawm_gym.worldmodel.source import choose_dtype

from .autoencoder import Ltx2Autoencoder
from .layout import AUTOENCODER_FOLDERS, Layout, Part, fetch, get_layout
from .load import load_network
from .offload import BlockOffload
from .refine import RefineMode, load_refiner_text, load_released_refiner, refiner_folder
from .refiner_text import Gemma3Text
from .samplers import Guided
from .sampling import SamplingConfig
from .settings import FORMULAS, Formulas, read_settings
from .tensors import open_tensors
from .text import DEFAULT_TEXT, GemmaText

OFFLOADS = ("no", "parts", "blocks")
"""Values of `OfficialConfig.offload`."""


@dataclass(frozen=True, kw_only=True)
class OfficialConfig:
    """How a released world is loaded, and what it draws."""

    device: str = "cpu"
    """Torch device that computes."""
    dtype: str = "auto"
    """float32, bfloat16 or auto (see `WorldModel.from_pretrained`), of all networks; recurrent
    states are float32 in either case."""
    offload: Literal["no", "parts", "blocks"] = "no"
    """What waits in main memory until it is used: nothing; text encoders and refiner ("parts"); or
    the text encoders and the blocks of network and refiner, one of which is on the device at a
    time ("blocks")."""
    formulas: Formulas | None = None
    """Whose switches to take where the published sources differ (`settings.FORMULAS`); None takes
    those of the code that the network was released with."""
    sampling: SamplingConfig | None = None
    """How clips are drawn; None is what the release says. Begin with one of `sampling.PRESETS`: its
    mode should be that the network was trained for."""
    refine: RefineMode = "no"
    """How drafts are refined: "no", "blocks" or "at_once"."""
    height: int = 704
    """Height of the pictures [px]; the released networks know 704."""
    width: int = 1280
    """Width of the pictures [px]; the released networks know 1280."""
    fps: float = 16.0
    """Pictures a second."""
    autoencoder: str | None = None
    """Folder of the autoencoder, for releases without one; None looks in the release."""
    text: str | None = None
    """Folder or hub id of Gemma-2; None looks in the release, then on the hub."""
    refiner: str | None = None
    """Folder of the refiner; None looks in the release."""
    cuda_graphs: bool = False
    """Record the chunks of a stream as CUDA graphs once they repeat (`graphs`): as many bytes more
    as two memories of a stream, and the host out of the way. Off until it has been measured."""
    compile: bool = False
    """Let torch compile the network's blocks when they are first called (`speed`): minutes once a
    process, other last digits. Off until it has been measured."""

    def __post_init__(self) -> None:
        """Check what can be checked before anything is read."""
        for name, known in (
            ("offload", OFFLOADS), ("refine", get_args(RefineMode)), ("formulas", (None, *FORMULAS))
        ):  # fmt: skip
            value = getattr(self, name)
            if value not in known:
                raise ValueError(f"{name}: got {value!r}, expected one of {list(known)}")
        if self.height < 1 or self.width < 1 or not self.fps > 0:
            raise ValueError(
                f"got height={self.height}, width={self.width}, fps={self.fps}; expected positive "
                "numbers, as released 704, 1280 and 16"
            )


@dataclass(frozen=True, kw_only=True)
class OfficialParts:
    """What a world is made of.

    Attributes:
        network: Velocity network.
        autoencoder: Pictures to latents and back.
        text: Prompts to its features.
        device: Where all of them compute.
        refiner: Draws the latents once more.
        refiner_text: Prompts to the refiner's features.
        offload: Moves the network's blocks in and out, if they rest in main memory.
    """

    network: SanaWM
    autoencoder: Ltx2Autoencoder
    text: GemmaText
    device: torch.device
    refiner: Refiner | None = None
    refiner_text: Gemma3Text | None = None
    offload: BlockOffload | None = None

    def first_latent(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> Float[Tensor, "b c 1 y x"]:
        """Latents of RGB pictures."""
        # A copy: pictures may lie in memory that nobody may write, as those of PIL do.
        pixels = torch.tensor(np.asarray(pictures)).permute(0, 3, 1, 2)
        return self.autoencoder.encode_picture(pixels.to(self.device).float() / 127.5 - 1)

    def encode(self, prompts: Sequence[str]) -> TextContext:
        """Prompts as the network's blocks read them."""
        features, mask = self.text.encode(prompts)
        return self.network.encode_text(features.to(self.network.dtype), mask)

    def guided(self, prompts: Sequence[str], sampling: SamplingConfig) -> Guided:
        """Prompts, and the negative one where there is guidance."""
        text = self.encode(prompts)
        if sampling.guidance == 1.0:
            return Guided(text=text)
        features, mask = self.text.encode_negative([sampling.negative_prompt] * len(prompts))
        null = self.network.encode_text(features.to(self.network.dtype), mask)
        return Guided(text=text, null=null)

    def refiner_features(
        self, prompts: Sequence[str]
    ) -> tuple[Refiner, Float[Tensor, "b m f"], Bool[Tensor, "b m"]]:
        """The refiner, and the prompts as it reads them."""
        assert self.refiner is not None and self.refiner_text is not None
        features, mask = self.refiner_text.encode(prompts)
        return self.refiner, features, mask


def load_parts(
    name_or_path: str | Path, config: OfficialConfig
) -> tuple[OfficialParts, SamplingConfig]:
    """Load a release.

    Raises:
        ValueError: If a part is missing or does not fit its configuration.
        ModuleNotFoundError: Without diffusers and transformers (extra `full`).
    """
    wanted: list[Part] = ["network"]
    wanted += ["autoencoder"] if config.autoencoder is None else []
    wanted += ["text"] if config.text is None else []
    wanted += ["refiner"] if config.refine != "no" and config.refiner is None else []
    layout = get_layout(name_or_path, wanted)
    device = check_device(config.device)
    dtype = choose_dtype(config.dtype, config.device)
    source = open_tensors(layout.weights)
    settings = read_settings(layout, source.shapes, config.formulas)
    sampling = settings.sampling if config.sampling is None else config.sampling
    # Before the largest file is read: what is missing shows at once.
    codec_folder = _autoencoder_folder(layout, config)
    words_folder = text_folder(layout, config)
    refined = config.refine != "no"
    second_folder = refiner_folder(layout.folder, config.refiner) if refined else None
    in_blocks = config.offload == "blocks"
    rest = torch.device("cpu") if config.offload != "no" else device
    network = load_network(
        settings.network, source, device=device, dtype=dtype,
        blocks_device="cpu" if in_blocks else None,
    )  # fmt: skip
    parts = OfficialParts(
        network=network,
        autoencoder=Ltx2Autoencoder.from_folder(codec_folder, device=device, dtype=dtype),
        text=GemmaText.from_folder(
            words_folder, instruction=sampling.instruction, max_tokens=sampling.max_tokens,
            device=device, rest=rest, dtype=dtype,
        ),
        offload=BlockOffload.of_network(network, device) if in_blocks else None,
        device=device,
    )  # fmt: skip
    if second_folder is None:
        return parts, sampling
    place = (device, "cpu") if in_blocks else (rest, None)
    refiner = load_released_refiner(second_folder, fps=config.fps, places=place, dtype=dtype)
    if in_blocks:
        BlockOffload.of_refiner(refiner, device)
    words = load_refiner_text(layout.folder, second_folder, device=device, rest=rest, dtype=dtype)
    return replace(parts, refiner=refiner, refiner_text=words), sampling


def check_device(name: str) -> torch.device:
    """The torch device of a name.

    Raises:
        ValueError: If there is no such device here.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device: got {name!r}, expected 'cpu' or 'cuda'") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device: got {name!r}, but torch sees no such GPU; expected 'cpu'")
    return device


def _autoencoder_folder(layout: Layout, config: OfficialConfig) -> Path:
    if config.autoencoder is not None:
        folder = Path(config.autoencoder)
        if not (folder / "config.json").is_file():
            raise ValueError(
                f"autoencoder: got {folder}, which holds none: expected a folder of config.json "
                "and safetensors, such as vae/ of SANA-WM_bidirectional"
            )
        return folder
    for name in AUTOENCODER_FOLDERS:
        if (layout.folder / name / "config.json").is_file():
            return layout.folder / name
    raise ValueError(
        f"{layout.folder} has no autoencoder: expected one of {list(AUTOENCODER_FOLDERS)}; give "
        "autoencoder=FOLDER, such as vae/ of SANA-WM_bidirectional"
    )


def text_folder(layout: Layout, config: OfficialConfig) -> Path:
    """Where Gemma-2 lies: in the release, in a folder, or fetched from the hub."""
    if config.text is None and (layout.folder / "text_encoder" / "config.json").is_file():
        return layout.folder
    name = DEFAULT_TEXT if config.text is None else config.text
    if Path(name).is_dir():
        if not any((Path(name) / part / "config.json").is_file() for part in ("text_encoder", "")):
            raise ValueError(
                f"text: got {name}, which holds no text encoder: expected Gemma-2's config.json, "
                "safetensors and tokenizer, or text_encoder/ and tokenizer/ with them"
            )
        return Path(name)
    try:
        return fetch(name, ["*.json", "*.safetensors", "*.model"])
    except ValueError as error:
        raise ValueError(f"no text encoder for {layout.folder}, text=FOLDER: {error}") from error
