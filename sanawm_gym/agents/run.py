"""A run on its way: what happens between the rollouts of an SB3 algorithm."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv
from tqdm import tqdm

from sanawm_gym.agents.checkpoints import save_checkpoint
from sanawm_gym.agents.evaluation import Evaluator, summary
from sanawm_gym.agents.learned import Actor, LearnedPolicy, save_actor
from sanawm_gym.agents.replay import ImageReplay
from sanawm_gym.agents.vec_env import SB3VecEnv
from sanawm_gym.train_wm.stop_signal import StopSignal
from sanawm_gym.worldmodel.folder import read_json, write_json
from sanawm_gym.worldmodel.noise import mix_seed

if TYPE_CHECKING:
    from sanawm_gym.agents.training import AgentConfig

_SEEDS = 2**31
_SHOWN_EVERY = 1.0  # seconds between two states of the progress bar


class Run(BaseCallback):
    """Saves, judges, films, shows and stops.

    Everything that interrupts the collecting happens at the beginning of a rollout: what was
    collected before has been learnt from then, and nothing of the next one is there yet. A signal
    does not wait for that: the rollout in progress is dropped, as nothing has been learnt from it.

    Args:
        config: Of the run.
        model: SB3's model.
        actor: Makes the driver of this moment.
        state: Of the checkpoint it goes on from; empty at the beginning.
        stop: Signals seen.
    """

    def __init__(
        self,
        config: AgentConfig,
        model: BaseAlgorithm,
        actor: Callable[[], Actor],
        state: dict[str, Any],
        stop: StopSignal,
    ) -> None:
        super().__init__()
        self._config, self._run_model, self._actor, self._stop = config, model, actor, stop
        self._evaluations: list[dict[str, Any]] = state.get("evaluations", [])
        self._saved_at: int | None = model.num_timesteps if state else None
        self._is_fresh = False
        self._is_over = False
        self._rollout_began = model.num_timesteps
        self._evaluator: Evaluator | None = None
        self._bar = tqdm(
            total=config.steps,
            initial=model.num_timesteps,
            unit="step",
            desc=config.out.name,
            mininterval=_SHOWN_EVERY,
        )

    def finish(self) -> dict[str, Any]:
        """Judge and save the end of the run; say where everything lies.

        Returns:
            The last evaluation.
        """
        steps = self._run_model.num_timesteps
        is_whole = steps >= self._config.steps
        if is_whole and self._judged_at < steps:
            self._evaluate()
            self._save()
        self._bar.close()
        if self._evaluator is not None:
            self._evaluator.close()
        out = self._config.out
        last = self._evaluations[-1] if self._evaluations else {}
        description = read_json(out / "run.json")
        write_json(out / "run.json", {**description, "steps_done": self._saved_at, "last": last})
        if is_whole:
            print(f"wrote {out / 'policy.safetensors'}")
        else:
            print(f"stopped after {self._saved_at} steps; the same command goes on from there")
        return last

    def _on_rollout_start(self) -> None:
        steps, config = self.num_timesteps, self._config
        is_first = not self._is_fresh
        self._rollout_began = steps
        limit = config.steps if config.stop_at is None else config.stop_at
        if config.evaluation.at_start and steps == 0 and not self._evaluations:
            self._evaluate()
        if not is_first and self._is_due(config.evaluation.every, self._judged_at):
            self._evaluate()
        must_stop = steps >= limit
        due = self._is_due(config.save_every, self._saved_at or 0)
        if not is_first and (must_stop or due):
            self._save()
        horizon = config.task.horizon_at(steps / config.steps)
        if horizon is not None:
            self._adapter.episode_options = {"horizon": horizon}
        if must_stop:
            self._is_over = True
        elif is_first or due:
            self._begin_anew()

    def _on_step(self) -> bool:
        if self._stop.number is not None and not self._is_over:
            self._run_model.num_timesteps = self._rollout_began
            self._save()
            self._is_over = True
        if self._is_over:
            return False
        self._bar.update(self.training_env.num_envs)
        for info in self.locals["infos"]:
            for name, value in info.get("reward_terms", {}).items():
                self.logger.record_mean(f"reward/{name}", value)
            if "episode" in info:
                self.logger.record_mean("rollout/terminated", not info["TimeLimit.truncated"])
                if "distance" in info:
                    self.logger.record_mean("rollout/metres", info["distance"])
                self._bar.set_postfix(reward=f"{info['episode']['r']:.2f}", refresh=False)
        return True

    @property
    def _judged_at(self) -> int:
        return int(self._evaluations[-1]["steps"]) if self._evaluations else 0

    def _is_due(self, every: int, last: int) -> bool:
        return self.num_timesteps // every > last // every

    @property
    def _adapter(self) -> SB3VecEnv:
        adapter = self.training_env.unwrapped
        assert isinstance(adapter, SB3VecEnv)
        return adapter

    def _begin_anew(self) -> None:
        """Cut all episodes and draw all random numbers from the seed and the steps done."""
        model = self._run_model
        seed = mix_seed(self._config.seed, self.num_timesteps) % _SEEDS
        set_random_seed(seed)
        model.action_space.seed(seed)
        envs: VecEnv = self.training_env
        envs.seed(seed)
        assert isinstance(model, OnPolicyAlgorithm | OffPolicyAlgorithm)
        model._last_obs = envs.reset()  # type: ignore[assignment]
        model._last_episode_starts = np.ones((envs.num_envs,), dtype=bool)
        replay = getattr(model, "replay_buffer", None)
        if isinstance(replay, ImageReplay):
            replay.cut()
        self._is_fresh = True

    def _save(self) -> None:
        self._saved_at = self._run_model.num_timesteps
        save_checkpoint(self._config.out, self._run_model, {"evaluations": self._evaluations})

    def _evaluate(self) -> None:
        """Drive as the actor would, keep the driver, and write down how it went."""
        config, out, model = self._config, self._config.out, self._run_model
        if self._evaluator is None:
            self._evaluator = Evaluator(config.task, config.evaluation)
        actor = self._actor()
        videos = out / "videos" / f"{model.num_timesteps:09d}"
        episodes = self._evaluator.drive(LearnedPolicy(actor), videos)
        found = {"steps": model.num_timesteps, **summary(episodes)}
        save_actor(actor, out / "policy.safetensors")
        if found["reward"] >= max((one["reward"] for one in self._evaluations), default=-np.inf):
            save_actor(actor, out / "best.safetensors")
        each = [dataclasses.asdict(episode) for episode in episodes]
        self._evaluations.append({**found, "episodes": each})
        write_json(out / "evaluations.json", {"evaluations": self._evaluations})
        for name, value in found.items():
            if name != "steps":
                model.logger.record(f"evaluation/{name}", value)
        model.logger.dump(model.num_timesteps)
        tqdm.write(_said(found))


def _said(found: dict[str, Any]) -> str:
    """An evaluation in one line."""
    metres = f", {found['metres']:.0f} m" if "metres" in found else ""
    return (
        f"after {found['steps']} steps: reward {found['reward']:.2f} "
        f"± {found['reward_deviation']:.2f}{metres}, {found['terminated']:.0%} ended early"
    )
