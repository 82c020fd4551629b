"""The world model: network, autoencoder, samplers and the world they make together.

Names are imported on first use, so that reading a configuration costs no import of torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sanawm_gym.worldmodel.autoencoder.model import VideoAutoencoder
    from sanawm_gym.worldmodel.config import DRIVE, SANA_WM_2B6, SanaWMConfig
    from sanawm_gym.worldmodel.model import SanaWM
    from sanawm_gym.worldmodel.world import WorldModel

__all__ = ["DRIVE", "SANA_WM_2B6", "SanaWM", "SanaWMConfig", "VideoAutoencoder", "WorldModel"]

_HOME = {
    "DRIVE": "config",
    "SANA_WM_2B6": "config",
    "SanaWM": "model",
    "SanaWMConfig": "config",
    "VideoAutoencoder": "autoencoder.model",
    "WorldModel": "world",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
