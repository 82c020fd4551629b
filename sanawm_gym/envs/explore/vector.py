"""Any number of free cameras: one forward of the world model for all of them.

What a batch does, whatever its rows are, stands in `BatchedEnv`; what a camera does, in
`ExploreRows`.
"""

from __future__ import annotations

from sanawm_gym.envs.batched import BatchedEnv

from .config import ExploreConfig
from .rows import ExploreRows
from .state import ExploreSnapshot


class SanaWMExploreVectorEnv(BatchedEnv[ExploreConfig, ExploreSnapshot]):
    """Many free cameras, each in a generated world of its own.

    What a single camera sees and does stands in `SanaWMExploreEnv`; rows, autoreset modes, seeds
    and snapshots are those of `SanaWMDriveVectorEnv`. Options of `reset` are `start`, `prompt`,
    `intrinsics`, `rig`, `horizon` (a list of `num_envs` values gives one to each row) and
    `reset_mask`.

    Args:
        num_envs: Number of cameras, at least 1.
        config: Settings; single fields can be given by name on top.
        autoreset_mode: A `gymnasium.vector.AutoresetMode` or its value.
        max_episode_steps: Decisions an episode, if fewer than the horizon holds.
        kwargs: Fields of `ExploreConfig`.

    Raises:
        ValueError: If a setting is unknown or impossible.
    """

    rows_type = ExploreRows
