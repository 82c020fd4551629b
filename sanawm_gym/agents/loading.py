"""Drivers by name."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from sanawm_gym.agents.policy import Policy
from sanawm_gym.agents.scripted import ConstantPolicy, RandomPolicy

BUILT_IN = ("cloned", "constant", "random")


def load_policy(name_or_path: str | Path) -> Policy:
    """A driver by name, or a cloned driver from a safetensors file.

    Args:
        name_or_path: ``cloned`` (shipped, steers by the picture), ``constant`` (straight on),
            ``random``, or a file written by ``python -m sanawm_gym.agents.cloning``.

    Raises:
        ValueError: If it is neither a known name nor a file.
    """
    if name_or_path == "constant":
        return ConstantPolicy()
    if name_or_path == "random":
        return RandomPolicy()
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
    return ClonedPolicy.from_file(path)
