"""The released SANA-WM: its weights, its samplers and the parts around the network.

Names are imported on first use, as in `sanawm_gym.worldmodel`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sanawm_gym.worldmodel.official.opening import Opening
    from sanawm_gym.worldmodel.official.parts import OfficialConfig
    from sanawm_gym.worldmodel.official.sampling import SamplingConfig
    from sanawm_gym.worldmodel.official.world import OfficialWorld

__all__ = ["OfficialConfig", "OfficialWorld", "Opening", "SamplingConfig"]

_HOME = {
    "OfficialConfig": "parts",
    "OfficialWorld": "world",
    "Opening": "opening",
    "SamplingConfig": "sampling",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
