"""Rows of a vector environment spread over processes, one a core.

The generated world draws its rows in one batch on one core. On several cores several smaller
batches are quicker: every process holds a part of the rows and steps it as the whole was stepped.
Rows do not see each other, so what a row does is the same however they are spread, up to the
rounding in batched matrix products that the environment states.

Workers are started afresh and not forked: a copy of a process in which torch has begun to compute
may wait for ever.
"""

from __future__ import annotations

import itertools
import multiprocessing
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from sanawm_gym.agents.vec_infos import split_infos
from sanawm_gym.vector_arguments import rows_to_reset, spread_seeds

_PATIENCE = 10.0  # seconds that a worker is given to end by itself
_ENDED = (
    "a worker of the environment ended by itself, expected it to answer; what it wrote to the "
    "terminal says why, and task.workers=1 does without"
)


class WorkerVectorEnv(VectorEnv[Any, Any, Any]):
    """A registered environment, its rows spread over processes.

    Under `if __name__ == "__main__":` only, as for all processes that are started afresh.

    Args:
        env: Gymnasium id that `import sanawm_gym` registers, or `module:id`.
        num_envs: Rows, >= 1.
        workers: Processes, 1 to `num_envs`; each has one thread.
        arguments: Keyword arguments of the environment.

    Raises:
        ValueError: If there are more workers than rows, or whatever the environment refuses.
    """

    def __init__(
        self, env: str, num_envs: int, workers: int, arguments: Mapping[str, Any] | None = None
    ) -> None:
        if not 1 <= workers <= num_envs:
            raise ValueError(
                f"workers: got {workers} for {num_envs} rows, expected 1 to {num_envs}; give each "
                "at least one row"
            )
        self.num_envs = num_envs
        bounds = np.linspace(0, num_envs, workers + 1).astype(int).tolist()
        self._parts = [slice(a, b) for a, b in itertools.pairwise(bounds)]
        self._workers: list[_Worker] = []
        self._observations: list[Any] = [None] * workers
        try:
            for part in self._parts:
                self._workers.append(_Worker(env, part.stop - part.start, dict(arguments or {})))
            described = self._results(range(workers))
        except BaseException:
            self.close()
            raise
        self.single_observation_space, self.single_action_space, metadata, mode = described[0]
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.metadata, self.render_mode = metadata, mode

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes.

        Args:
            seed: One for row 0, counted up for the others; one a row; or None to go on drawing.
            options: Of the environment; a list has one value a row. With `reset_mask`, only the
                marked rows begin anew.
        """
        given = dict(options or {})
        chosen = np.zeros(self.num_envs, dtype=bool)
        chosen[rows_to_reset(given.pop("reset_mask", None), self.num_envs)] = True
        seeds = spread_seeds(seed, self.num_envs)
        asked = [index for index, part in enumerate(self._parts) if chosen[part].any()]
        for index in asked:
            part = self._parts[index]
            own = {
                name: value[part] if isinstance(value, list) else value
                for name, value in given.items()
            }
            if not chosen[part].all():
                own["reset_mask"] = chosen[part]
            none_given = all(one is None for one in seeds[part])
            self._workers[index].ask("reset", None if none_given else seeds[part], own or None)
        infos: dict[str, Any] = {}
        for index, (observation, rows) in zip(asked, self._results(asked), strict=True):
            self._observations[index] = observation
            infos = self._with_infos(infos, index, rows)
        return _joined(self._observations), infos

    def step(
        self, actions: Any
    ) -> tuple[Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Take one action a row."""
        actions = np.asarray(actions)
        if actions.shape[:1] != (self.num_envs,):
            raise ValueError(
                f"step: got actions of the shape {actions.shape}, expected {self.num_envs} rows; "
                "give one action a row"
            )
        for worker, part in zip(self._workers, self._parts, strict=True):
            worker.ask("step", actions[part])
        infos: dict[str, Any] = {}
        parts = self._results(range(len(self._workers)))
        for index, (*_, rows) in enumerate(parts):
            infos = self._with_infos(infos, index, rows)
        self._observations = [part[0] for part in parts]
        rewards, terminated, truncated = (
            np.concatenate([part[place] for part in parts]) for place in (1, 2, 3)
        )
        return _joined(self._observations), rewards, terminated, truncated, infos

    def render(self) -> tuple[Any, ...] | None:
        """What every row renders."""
        for worker in self._workers:
            worker.ask("render")
        parts = self._results(range(len(self._workers)))
        return None if parts[0] is None else tuple(one for part in parts for one in part)

    def close_extras(self, **kwargs: Any) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.end()

    def _results(self, asked: Sequence[int]) -> list[Any]:
        """Answers of workers, all of which are heard before one's error is raised."""
        answers = [self._workers[index].answer() for index in asked]
        for has_failed, found in answers:
            if has_failed:
                raise found
        return [found for _, found in answers]

    def _with_infos(
        self, infos: dict[str, Any], index: int, rows: Sequence[dict[str, Any]]
    ) -> dict[str, Any]:
        for row, info in enumerate(rows, start=self._parts[index].start):
            infos = self._add_info(infos, info, row)
        return infos


class _Worker:
    """A process with some rows, seen from outside."""

    def __init__(self, env: str, num_rows: int, arguments: dict[str, Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_work, args=(theirs, env, num_rows, arguments), daemon=True
        )
        self._process.start()
        theirs.close()

    def ask(self, name: str, *arguments: Any) -> None:
        """Let it do something; `answer` waits for it.

        Raises:
            RuntimeError: If the process has ended.
        """
        try:
            self._pipe.send((name, arguments))
        except OSError as error:
            raise RuntimeError(_ENDED) from error

    def answer(self) -> tuple[bool, Any]:
        """Whether it failed, and what came of it: a result or an error.

        Raises:
            RuntimeError: If the process has ended.
        """
        try:
            answer: tuple[bool, Any] = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise RuntimeError(_ENDED) from error
        return answer

    def end(self) -> None:
        """Let the process end, which it does by itself when nobody can ask it any more."""
        self._pipe.close()
        self._process.join(_PATIENCE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _work(pipe: Connection, env: str, num_rows: int, arguments: dict[str, Any]) -> None:
    """What a worker does until nobody asks any more."""
    # Ctrl-C reaches all processes of a terminal; who trains needs the rows until it has saved.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import sanawm_gym  # noqa: F401  (registers the environments)

    envs: Any = None

    def make() -> Any:
        nonlocal envs
        envs = gym.make_vec(env, num_rows, **arguments)
        if "torch" in sys.modules:  # the reference simulator does without, which starts sooner
            sys.modules["torch"].set_num_threads(1)
        spaces = envs.single_observation_space, envs.single_action_space
        return *spaces, envs.metadata, envs.render_mode

    def reset(seed: list[int | None] | None, options: dict[str, Any] | None) -> Any:
        observation, infos = envs.reset(seed=seed, options=options)
        return observation, split_infos(infos, num_rows)

    def step(actions: Any) -> Any:
        *rest, infos = envs.step(actions)
        return *rest, split_infos(infos, num_rows)

    _answer(pipe, make)
    known: dict[str, Callable[..., Any]] = {"reset": reset, "step": step}
    while True:
        try:
            name, given = pipe.recv()
        except EOFError:
            break
        _answer(pipe, known.get(name, envs.render), *given)
    if envs is not None:
        envs.close()


def _answer(pipe: Connection, action: Callable[..., Any], *given: Any) -> None:
    """Send what comes of an action, or the error that says why nothing does."""
    try:
        found = False, action(*given)
    except (ValueError, TypeError, ModuleNotFoundError, gym.error.Error) as error:
        found = True, error
    pipe.send(found)


def _joined(parts: Sequence[Any]) -> Any:
    """Observations of all rows."""
    if isinstance(parts[0], dict):
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return np.concatenate(parts)
