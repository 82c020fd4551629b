"""The generated world for any number of cars: one forward of the world model for all of them.

What a batch does, whatever its rows are, stands in `BatchedEnv`; what a drive does, in `DriveRows`.
"""

from __future__ import annotations

from .batched import BatchedEnv
from .config import DriveConfig
from .rows import DriveRows
from .snapshot import DriveSnapshot


class SanaWMDriveVectorEnv(BatchedEnv[DriveConfig, DriveSnapshot]):
    """Many cars, each in a generated world of its own, drawn by one forward of the world model.

    What a single car sees, does and is paid for stands in `SanaWMDriveEnv`; this class adds rows.

    **Rows.** A row's drive depends on its own seed and actions only. Its pictures equal those of
    the scalar environment with the same seed up to rounding in the batched matrix products: at most
    2 of 255 over the first decisions in float32. `reset(seed=s)` gives row i the seed s + i.

    **Autoreset**, by the argument `autoreset_mode`: `NextStep` (default) resets a finished row
    on the following step, whose action for this row is ignored and rewarded with 0; `SameStep`
    resets it at once and returns the last observation and info under `final_obs` and
    `final_info`; `Disabled` leaves it to `reset(options={"reset_mask": ...})` with a boolean array.

    **Options** of `reset` are the fields of `DriveConfig` and hold for the episodes they begin; a
    list of `num_envs` values gives one to each row. World, device, dtype, sampler steps,
    observation and rendering belong to the environment as a whole: they change only when all rows
    are reset, and then stay. The kind of action is fixed.

    **Chunks.** With an action of several decisions a row that ends on the way stands still until
    the others are through: its reward and info are those of its end.

    **Snapshots.** `snapshot()` and `restore(snapshot)` keep and bring back all rows;
    `fork(n, row)` makes an environment of n copies of one row.

    Args:
        num_envs: Number of cars, at least 1.
        config: Settings; single fields can be given by name on top.
        autoreset_mode: A `gymnasium.vector.AutoresetMode` or its value.
        max_episode_steps: Steps an episode, if fewer than the horizon holds.
        kwargs: Fields of `DriveConfig`.

    Raises:
        ValueError: If a setting is unknown or impossible.
    """

    rows_type = DriveRows
