"""Drivers by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from sanawm_gym.agents.policy import Policy
from sanawm_gym.agents.road_drivers import IDM, LaneKeeper, PurePursuit, Reckless
from sanawm_gym.agents.scripted import ConstantPolicy, RandomPolicy

if TYPE_CHECKING:
    from sanawm_gym.agents.learned import Actor

SCRIPTED: dict[str, Callable[[], Policy]] = {
    "constant": ConstantPolicy,
    "random": RandomPolicy,
    "lane-keeper": LaneKeeper,
    "pure-pursuit": PurePursuit,
    "idm": IDM,
    "reckless": Reckless,
}
"""Drivers that need no training; all but the first two read the road off the infos."""
SHIPPED = ("cloned", "ppo")
"""Trained drivers whose weights come with the package."""
BUILT_IN = (*SHIPPED, *SCRIPTED)


def load_policy(name_or_path: str | Path) -> Policy:
    """A driver by name, or a trained one from a safetensors file.

    Args:
        name_or_path: One of `SHIPPED`, which steer by the picture, one of `SCRIPTED`, or a file
            written by ``sanawm-gym train-agent``.

    Raises:
        ValueError: If it is neither a known name nor a file.
    """
    if isinstance(name_or_path, str) and name_or_path in SCRIPTED:
        return SCRIPTED[name_or_path]()
    path = weights_file(name_or_path, known=BUILT_IN)
    # torch is imported only by the drivers that need it.
    from sanawm_gym.agents.cloned import ClonedPolicy
    from sanawm_gym.agents.learned import LearnedPolicy, is_learned

    return LearnedPolicy.from_file(path) if is_learned(path) else ClonedPolicy.from_file(path)


def load_actor(name_or_path: str | Path) -> Actor:
    """The network of a trained driver, to train it further.

    Args:
        name_or_path: One of `SHIPPED`, or a file written by ``sanawm-gym train-agent``.

    Raises:
        ValueError: If it is neither, or the file holds no driver.
    """
    path = weights_file(name_or_path)
    from sanawm_gym.agents.cloned import actor_of, load_driver
    from sanawm_gym.agents.learned import is_learned, read_actor

    return read_actor(path) if is_learned(path) else actor_of(load_driver(path))


def weights_file(name_or_path: str | Path, known: Sequence[str] = SHIPPED) -> Path:
    """The file of a trained driver.

    Args:
        name_or_path: One of `SHIPPED`, or a file.
        known: Names that an error offers.

    Raises:
        ValueError: If there is no such driver and no such file.
    """
    if name_or_path in SHIPPED:
        root = Path(str(resources.files("sanawm_gym.agents") / "weights"))
        return root / f"{name_or_path}.safetensors"
    path = Path(name_or_path)
    if not path.is_file():
        raise ValueError(
            f"no driver {str(name_or_path)!r}: expected one of {list(known)} or a safetensors file"
        )
    return path
