"""Vector environments of Gymnasium as Stable-Baselines3 wants to see them.

Both libraries step many environments together, but SB3 refuses Gymnasium's `VectorEnv`. Its own
contract differs in four ways: a finished row begins anew within the step that finished it; the last
observation then stands in `info["terminal_observation"]`; terminated and truncated are one `done`,
told apart by `info["TimeLimit.truncated"]`; and infos come one dictionary a row.

    envs = gym.make_vec("SanaWM-Drive-v0", num_envs=8)
    PPO("MultiInputPolicy", SB3VecEnv(envs)).learn(100_000)

All three autoreset modes are taken. Under `NextStep` and `Disabled` finished rows are reset here,
by Gymnasium's `reset_mask`; that is also where `episode_options` of later episodes come in.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import (
    VecEnvIndices,
    VecEnvObs,
    VecEnvStepReturn,
)

from sanawm_gym.agents.vec_infos import split_infos


class SB3VecEnv(VecEnv):
    """A `gymnasium.vector.VectorEnv` behind SB3's `VecEnv`.

    **Attributes and methods by row.** Where every row is an environment of its own
    (`SyncVectorEnv`, `AsyncVectorEnv`), `get_attr`, `set_attr` and `env_method` reach that one. In
    a natively batched environment all rows share one object: an attribute is the same for all of
    them and is set for all at once; a method that takes a `row` is called once a row, any other is
    called once, and of what it returns a row gets its own part.

    Args:
        envs: The vector environment; it is closed with this one.
        episode_options: Options of `reset` for every episode that begins from now on; options set
            by `set_options` come on top. The attribute of that name can be changed at any time.

    Raises:
        ValueError: If it is no vector environment or does not say how it resets itself.
    """

    def __init__(self, envs: Any, episode_options: Mapping[str, Any] | None = None) -> None:
        if not isinstance(envs, VectorEnv):
            raise ValueError(
                f"envs: got a {type(envs).__name__}, expected a gymnasium.vector.VectorEnv; make "
                "one with gymnasium.make_vec"
            )
        if "autoreset_mode" not in envs.metadata:
            raise ValueError(
                f"envs: got {envs}, whose metadata lack 'autoreset_mode'; expected a "
                "gymnasium.vector.AutoresetMode there; state how the environment resets itself"
            )
        self.envs: VectorEnv[Any, Any, Any] = envs
        self.autoreset_mode = AutoresetMode(envs.metadata["autoreset_mode"])
        self.episode_options = dict(episode_options or {})
        self._actions: np.ndarray | None = None
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)

    def reset(self) -> VecEnvObs:
        """Begin new episodes with the seeds and options set for them, which hold only once."""
        groups = _groups(self._options)
        started: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        # All rows first: an environment that never began cannot begin in part.
        for index, rows in enumerate([range(self.num_envs), *groups[1:]]):
            options = dict(self.episode_options) | self._options[rows[0]]
            if index:
                options["reset_mask"] = np.isin(np.arange(self.num_envs), rows)
            observations, infos = self._reset(options, self._seeds)
            split = split_infos(infos, self.num_envs)
            for row in rows:
                started[row] = split[row]
        self.reset_infos = started
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step all rows and begin those anew that are done."""
        observations, rewards, terminated, truncated, joined = self.envs.step(self._actions)
        infos = split_infos(joined, self.num_envs)
        done = np.asarray(terminated | truncated)
        for row, info in enumerate(infos):
            if done[row] and self.autoreset_mode is AutoresetMode.SAME_STEP:
                last, finals = info.pop("final_obs"), info.pop("final_info")
                self.reset_infos[row] = info
                infos[row] = dict(finals) | {"terminal_observation": last}
            elif done[row]:
                info["terminal_observation"] = _row_of(observations, row)
            infos[row]["TimeLimit.truncated"] = bool(truncated[row] and not terminated[row])
        if done.any() and self.autoreset_mode is not AutoresetMode.SAME_STEP:
            observations, joined = self._reset({**self.episode_options, "reset_mask": done.copy()})
            begun = split_infos(joined, self.num_envs)
            for row in np.flatnonzero(done).tolist():
                self.reset_infos[row] = begun[row]
        return observations, np.asarray(rewards, dtype=np.float32), done, infos

    def close(self) -> None:
        """Close the vector environment."""
        self.envs.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """The newest picture of every row, where the render mode gives pictures."""
        if self.render_mode not in ("rgb_array", "rgb_array_list"):
            warnings.warn(
                f"render: got the render mode {self.render_mode!r}, expected 'rgb_array' for "
                "pictures; give it to gymnasium.make_vec",
                stacklevel=2,
            )
            return [None] * self.num_envs
        rendered: Any = self.envs.render() or ()
        return [one[-1] if isinstance(one, list) else one for one in rendered]

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of some rows."""
        rows = self._rows(indices)
        envs = self.envs.unwrapped
        if isinstance(envs, SyncVectorEnv):
            return [envs.envs[row].get_wrapper_attr(attr_name) for row in rows]
        if isinstance(envs, AsyncVectorEnv):
            values = envs.get_attr(attr_name)
            return [values[row] for row in rows]
        return [getattr(envs, attr_name)] * len(rows)

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of some rows.

        Raises:
            ValueError: If some rows are meant, but all of them share one environment.
        """
        rows = self._rows(indices)
        envs = self.envs.unwrapped
        if isinstance(envs, SyncVectorEnv):
            for row in rows:
                envs.envs[row].set_wrapper_attr(attr_name, value)
        elif isinstance(envs, AsyncVectorEnv):
            whole = len(set(rows)) == self.num_envs
            values = [value] * self.num_envs if whole else list(envs.get_attr(attr_name))
            for row in rows:
                values[row] = value
            envs.set_attr(attr_name, values)
        else:
            self._check_all(rows, f"set_attr {attr_name!r}")
            setattr(envs, attr_name, value)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Call a method of some rows; see the class for environments that share one object.

        Raises:
            ValueError: If some rows are meant, but each lives in a process of its own.
        """
        rows = self._rows(indices)
        envs = self.envs.unwrapped
        if isinstance(envs, SyncVectorEnv):
            methods = [envs.envs[row].get_wrapper_attr(method_name) for row in rows]
            return [method(*method_args, **method_kwargs) for method in methods]
        if isinstance(envs, AsyncVectorEnv):
            self._check_all(rows, f"env_method {method_name!r}")
            return list(envs.call(method_name, *method_args, **method_kwargs))
        method = getattr(envs, method_name)
        if "row" in inspect.signature(method).parameters:
            return [method(*method_args, **{**method_kwargs, "row": row}) for row in rows]
        result = method(*method_args, **method_kwargs)
        return [_part_of(result, row, self.num_envs) for row in rows]

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Whether some rows are wrapped; rows that share one environment have no wrappers."""
        rows = self._rows(indices)
        envs = self.envs.unwrapped
        if isinstance(envs, SyncVectorEnv):
            return [is_wrapped(envs.envs[row], wrapper_class) for row in rows]
        return [False] * len(rows)

    def _reset(
        self, options: dict[str, Any], seeds: Sequence[int | None] = ()
    ) -> tuple[VecEnvObs, dict[str, Any]]:
        if self.autoreset_mode is AutoresetMode.SAME_STEP and self.episode_options:
            raise ValueError(
                "episode_options: got them for an environment that begins its episodes by itself "
                "(autoreset mode SameStep), expected NextStep or Disabled; make it with one of them"
            )
        given = None if all(seed is None for seed in seeds) else list(seeds)
        return self.envs.reset(seed=given, options=options or None)  # type: ignore[arg-type]

    def _rows(self, indices: VecEnvIndices) -> list[int]:
        wanted: Iterable[int] = self._get_indices(indices)
        return [range(self.num_envs)[int(row)] for row in wanted]

    def _check_all(self, rows: Sequence[int], what: str) -> None:
        if set(rows) != set(range(self.num_envs)):
            raise ValueError(
                f"{what}: got rows {list(rows)}, expected all {self.num_envs}: they cannot be "
                "reached one by one here; leave indices out"
            )


def _groups(options: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Rows with equal options, those of row 0 first."""
    groups: list[list[int]] = []
    for row, own in enumerate(options):
        known = next((group for group in groups if _equal(options[group[0]], own)), None)
        if known is None:
            groups.append([row])
        else:
            known.append(row)
    return groups


def _equal(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether options are surely the same; arrays count as other unless they are one object."""
    plain = (bool, int, float, str)
    return one.keys() == other.keys() and all(
        value is other[key]
        or (isinstance(value, plain) and isinstance(other[key], plain) and value == other[key])
        for key, value in one.items()
    )


def _row_of(observations: Any, row: int) -> Any:
    """One row of batched observations, as a copy."""
    if isinstance(observations, dict):
        return {key: _row_of(values, row) for key, values in observations.items()}
    return np.array(observations[row])


def _part_of(result: Any, row: int, num_rows: int) -> Any:
    """A row's part of what a method of the whole batch returned."""
    if isinstance(result, list | tuple | np.ndarray) and len(result) == num_rows:
        return result[row]
    select = getattr(result, "select", None)
    return result if select is None else select([row])
