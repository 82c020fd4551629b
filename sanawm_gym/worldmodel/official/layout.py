"""Where the released weights lie: four ways to lay out a folder, one description of them.

| kind | what tells it | published as |
|---|---|---|
| diffusers | `transformer/config.json` | `SANA-WM_bidirectional-diffusers`; what `convert` writes |
| streaming | `sana_dit/` | `SANA-WM_streaming`: a pickle, its other parts in folders of diffusers |
| original | `dit/` and `config.yaml` | `SANA-WM_bidirectional`, `SANA-WM_chunk_causal` |

They are tried in this order, so that a folder in which `convert` has put a `transformer/` beside
the pickle no longer opens the pickle. Nothing is read here but names and indices.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sanawm_gym.worldmodel.folder import read_json

Kind = Literal["diffusers", "streaming", "original"]
Part = Literal["network", "autoencoder", "text", "refiner"]

STEM = "diffusion_pytorch_model"
"""Stem of weight files in the layout of diffusers."""
_PUBLISHED = "SANA-WM_"
"""Beginning of the names of released repositories and of their conversions by others."""
SAMPLING_FILE = "sampling.json"
"""What `convert` writes beside `transformer/`: how the network is to be sampled."""
AUTOENCODER_FOLDERS = ("ltx2_causal_vae", "vae")
REFINER_FOLDERS = ("refiner_diffusers", "refiner")
_PATTERNS: dict[Part, tuple[str, ...]] = {
    "network": (
        "*.yaml", "model_index.json", SAMPLING_FILE, "scheduler/*.json", "transformer/*.json",
        "transformer/*.safetensors", "dit/*.json", "dit/*.safetensors", "sana_dit/*",
    ),
    "autoencoder": tuple(f"{folder}/*" for folder in AUTOENCODER_FOLDERS),
    "text": ("text_encoder/*", "tokenizer/*"),
    "refiner": (*(f"{folder}/*" for folder in REFINER_FOLDERS), "gemma3_12b/*"),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A folder of released weights.

    Attributes:
        kind: How it is laid out.
        folder: Its root, where the other parts lie.
        weights: Files that hold the network.
        config: What describes the network: json or yaml; None where nothing does.
    """

    kind: Kind
    folder: Path
    weights: tuple[Path, ...]
    config: Path | None


def find_layout(folder: Path) -> Layout | None:
    """Layout of a folder, or None if it holds no released network.

    Raises:
        ValueError: If it begins like one of the layouts but its weights are missing or ambiguous.
    """
    for root in (folder / "transformer", folder):
        if _is_diffusers(root):
            return Layout(
                kind="diffusers",
                folder=folder,
                weights=weight_files(root),
                config=root / "config.json",
            )
    if (folder / "sana_dit").is_dir():
        pickles = sorted((folder / "sana_dit").glob("*.pt"))
        safe = sorted((folder / "sana_dit").glob("*.safetensors"))
        weights = tuple(pickles) if pickles and not safe else weight_files(folder / "sana_dit")
        if len(weights) > 1 and not safe:
            raise ValueError(f"{folder}/sana_dit holds {len(weights)} pickles, expected model.pt")
        return Layout(kind="streaming", folder=folder, weights=weights, config=_yaml(folder))
    if (folder / "dit").is_dir():
        return Layout(
            kind="original", folder=folder, weights=weight_files(folder / "dit"),
            config=_yaml(folder),
        )  # fmt: skip
    return None


def is_release(name_or_path: str | Path) -> bool:
    """Whether a folder holds a released network, or a hub id has the name of one."""
    folder = Path(name_or_path).expanduser()
    if folder.is_dir():
        return find_layout(folder) is not None
    owner, _, name = str(name_or_path).partition("/")
    return bool(owner) and name.startswith(_PUBLISHED)


def denied(name_or_path: str | Path) -> str:
    """What `is_release` says no to, for messages about options of released weights."""
    folder = Path(name_or_path).expanduser()
    missing = "/" in str(name_or_path) and not folder.exists()
    return f"{str(name_or_path)!r}, which is no released network" + (
        " (there is no such folder, nor is it the id of a published one)" if missing else ""
    )


def get_layout(name_or_path: str | Path, parts: Collection[Part]) -> Layout:
    """Layout of a local folder or of a hub repository, of which only some parts are fetched.

    Args:
        name_or_path: A folder, or a hub id ``owner/name``.
        parts: What is needed of it.

    Raises:
        ValueError: If it is neither, or holds no released network.
    """
    folder = Path(name_or_path).expanduser()
    if not folder.exists():
        folder = fetch(str(name_or_path), patterns(parts))
    layout = find_layout(folder)
    if layout is None and (folder / "world.json").is_file():
        raise ValueError(
            f"{folder} holds a world of this project: open it with WorldModel.from_pretrained"
        )
    if layout is None:
        raise ValueError(
            f"{folder} holds no SANA-WM network: expected transformer/config.json (diffusers), "
            "dit/ with config.yaml (original) or sana_dit/model.pt (streaming)"
        )
    return layout


def patterns(parts: Collection[Part]) -> list[str]:
    """Files of a repository that some parts need, as glob patterns."""
    return [pattern for part in _PATTERNS if part in parts for pattern in _PATTERNS[part]]


def fetch(name: str, wanted: list[str]) -> Path:
    """Folder of a hub repository, of which files of some glob patterns are fetched.

    Raises:
        ValueError: If the name is no hub id or the repository cannot be had.
    """
    if name.count("/") != 1:
        own = " (worlds of this project are opened with WorldModel.from_pretrained)"
        raise ValueError(
            f"no folder {name!r}: expected a folder or a hub id 'owner/name'"
            + ("" if "/" in name else own)
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=wanted))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise ValueError(
            f"no weights {name!r} on disk or on the hub: {reason}. Give a folder, or the id of a "
            "repository that you may read"
        ) from error


def _is_diffusers(root: Path) -> bool:
    path = root / "config.json"
    if not path.is_file():
        return False
    return read_json(path).get("_class_name") == "SanaWMTransformer3DModel"


def _yaml(folder: Path) -> Path | None:
    """config.yaml, or the only yaml of the folder."""
    if (folder / "config.yaml").is_file():
        return folder / "config.yaml"
    found = sorted(folder.glob("*.yaml"))
    if len(found) > 1:
        raise ValueError(
            f"{folder} holds {[path.name for path in found]}: expected one yaml, or config.yaml"
        )
    return found[0] if found else None


def weight_files(root: Path) -> tuple[Path, ...]:
    """Weight files of a folder: those of its index, else the only one there is."""
    indices = sorted(root.glob("*.safetensors.index.json"))
    if len(indices) == 1:
        weight_map = read_json(indices[0]).get("weight_map")
        if not isinstance(weight_map, dict):
            raise ValueError(f"{indices[0]} has no weight_map: expected files by tensor; fetch it")
        names = sorted(set(weight_map.values()))
        missing = [name for name in names if not (root / name).is_file()]
        if missing:
            raise ValueError(f"{indices[0]} names {missing}, which are not there: fetch them")
        return tuple(root / name for name in names)
    found = sorted(root.glob("*.safetensors"))
    if len(found) != 1:
        raise ValueError(
            f"{root} holds {len(found)} .safetensors files and {len(indices)} indices, expected "
            "one file or one index"
        )
    return (found[0],)
