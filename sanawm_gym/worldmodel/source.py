"""Where a world comes from, and in which precision it runs."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import torch

from sanawm_gym.worldmodel.official.layout import is_release

WORLD_FILE = "world.json"
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def bundled_worlds() -> tuple[str, ...]:
    """Names of the worlds inside the package."""
    root = Path(str(resources.files("sanawm_gym.worldmodel") / "weights"))
    if not root.is_dir():
        return ()
    return tuple(sorted(folder.name for folder in root.iterdir() if (folder / WORLD_FILE).exists()))


def find_world(name_or_path: str | Path) -> Path:
    """Folder of a world: bundled name, existing folder, or hub id, tried in this order.

    Raises:
        ValueError: If it is none of them, listing what there is.
    """
    root = Path(str(resources.files("sanawm_gym.worldmodel") / "weights"))
    if str(name_or_path) in bundled_worlds():
        return root / str(name_or_path)
    folder = Path(name_or_path).expanduser()
    if (folder / WORLD_FILE).is_file():
        return folder
    if is_release(name_or_path):
        raise ValueError(
            f"{name_or_path} are released SANA-WM weights: open them with "
            "OfficialWorld.from_pretrained (sanawm_gym.worldmodel.official)"
        )
    if folder.exists() or str(name_or_path).count("/") != 1:
        raise ValueError(
            f"no world {str(name_or_path)!r}: expected one of the bundled worlds "
            f"{list(bundled_worlds())}, a folder that holds {WORLD_FILE}, or a hub id 'owner/name'"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        patterns = ["*.json", "*.safetensors", "contexts/*"]
        return Path(snapshot_download(str(name_or_path), allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ValueError(
            f"no world {str(name_or_path)!r} in the package ({list(bundled_worlds())}), on disk or "
            f"on the hub: {error}"
        ) from error


def choose_dtype(dtype: str, device: str) -> torch.dtype:
    """Torch dtype for ``float32``, ``bfloat16`` or ``auto``.

    ``auto`` takes bfloat16 on a GPU and on processors with bfloat16 dot products, where it is about
    twice as fast, and float32 elsewhere, where bfloat16 would be emulated.

    Raises:
        ValueError: If the name is none of the three.
    """
    if dtype in _DTYPES:
        return _DTYPES[dtype]
    if dtype != "auto":
        raise ValueError(f"dtype must be one of {[*_DTYPES, 'auto']}, got {dtype!r}")
    fast = torch.device(device).type != "cpu" or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if fast else torch.float32
