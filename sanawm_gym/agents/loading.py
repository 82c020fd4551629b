"""Drivers by name."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from pathlib import Path

from sanawm_gym.agents.policy import Policy
from sanawm_gym.agents.road_drivers import IDM, LaneKeeper, PurePursuit, Reckless
from sanawm_gym.agents.scripted import ConstantPolicy, RandomPolicy

SCRIPTED: dict[str, Callable[[], Policy]] = {
    "constant": ConstantPolicy,
    "random": RandomPolicy,
    "lane-keeper": LaneKeeper,
    "pure-pursuit": PurePursuit,
    "idm": IDM,
    "reckless": Reckless,
}
"""Drivers that need no training; all but the first two read the road off the infos."""
BUILT_IN = ("cloned", *SCRIPTED)


def load_policy(name_or_path: str | Path) -> Policy:
    """A driver by name, or a trained one from a safetensors file.

    Args:
        name_or_path: ``cloned`` (shipped, steers by the picture), one of `SCRIPTED`, or a file
            written by ``sanawm-gym train-agent``.

    Raises:
        ValueError: If it is neither a known name nor a file.
    """
    if isinstance(name_or_path, str) and name_or_path in SCRIPTED:
        return SCRIPTED[name_or_path]()
    # torch is imported only by the drivers that need it.
    from sanawm_gym.agents.cloned import ClonedPolicy

    if name_or_path == "cloned":
        root = Path(str(resources.files("sanawm_gym.agents") / "weights"))
        return ClonedPolicy.from_file(root / "cloned.safetensors")
    path = Path(name_or_path)
    if not path.is_file():
        raise ValueError(
            f"no driver {str(name_or_path)!r}: expected one of {list(BUILT_IN)} or a "
            "safetensors file"
        )
    from sanawm_gym.agents.learned import LearnedPolicy, is_learned

    return LearnedPolicy.from_file(path) if is_learned(path) else ClonedPolicy.from_file(path)
