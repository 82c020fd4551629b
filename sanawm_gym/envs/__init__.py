"""The environments: the generated road, its batched form, and the reference simulator.

Names are imported on first use: the reference world needs no torch, the generated one no renderer.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import DriveConfig
    from .drive import SanaWMDriveEnv
    from .recording import RecordVideo
    from .snapshot import DriveSnapshot
    from .vector import SanaWMDriveVectorEnv

__all__ = [
    "DriveConfig",
    "DriveSnapshot",
    "RecordVideo",
    "SanaWMDriveEnv",
    "SanaWMDriveVectorEnv",
]

_HOME = {
    "DriveConfig": "config",
    "DriveSnapshot": "snapshot",
    "RecordVideo": "recording",
    "SanaWMDriveEnv": "drive",
    "SanaWMDriveVectorEnv": "vector",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
