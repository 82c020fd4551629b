"""How fast a drive through the generated world is: one car, one minute of world, one thread.

The loop is that of `sanawm-gym drive` without the video file: the driver acts, the environment
steps. Afterwards the parts of a step are timed on their own: the whole world model, and of it the
decoder; what is left of it are the passes of the network. Wall seconds are what a user waits for;
processor seconds say what it would be on a machine with nothing else to do.

Last, the forms in which a world can step (`--backends`) take steps in turns from one state, so that
whatever else the machine does falls on all of them; their ratios are of the fastest quarter of the
steps, in processor seconds.

    python benchmarks/drive_speed.py --out results/drive_speed.json
    python benchmarks/drive_speed.py --backends plain fused openvino   # with the extra fast
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
import tyro
from report import Report, quantiles_ms
from tqdm import tqdm

from sanawm_gym.agents import Policy, load_policy
from sanawm_gym.envs.worlds import shared_world
from sanawm_gym.worldmodel import WorldModel
from sanawm_gym.worldmodel.world_state import WorldState


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to time.

    Attributes:
        world: World model: a bundled name, a folder or a hub id.
        policy: Driver: cloned, constant, random or a file of weights.
        seconds: Length of a drive [s], > 0.
        repeats: Drives timed, >= 1, after a short one that warms up.
        device: Torch device.
        backend: Form in which the timed drives step.
        backends: Forms to compare with the first one; none for no comparison.
        threads: CPU threads of torch, >= 1.
        seed: Seed of the first drive.
        out: JSON file to write.
    """

    world: str = "drive"
    policy: str = "cloned"
    seconds: float = 60.0
    repeats: int = 3
    device: str = "cpu"
    backend: str = "auto"
    backends: tuple[str, ...] = ("plain", "fused")
    threads: int = 1
    seed: int = 0
    out: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Drive:
    """Times of one drive [s]."""

    wall: float
    processor: float
    steps: list[float]


class Times(NamedTuple):
    """Times of the steps of one form [s]."""

    wall: list[float]
    processor: list[float]


def drive(env: gym.Env[Any, Any], policy: Policy, seed: int, num_decisions: int) -> Drive:
    observation, _ = env.reset(seed=seed)
    policy.reset([seed])
    steps = []
    wall, processor = time.perf_counter(), time.process_time()
    for _ in tqdm(range(num_decisions), unit="decision", leave=False):
        action = policy.act({name: value[None] for name, value in observation.items()})[0]
        began = time.perf_counter()
        observation, *_ = env.step(action)
        steps.append(time.perf_counter() - began)
    return Drive(
        wall=time.perf_counter() - wall, processor=time.process_time() - processor, steps=steps
    )


def time_parts(model: WorldModel, state: WorldState, turns: int) -> dict[str, list[float]]:
    """Times of a step of the world model and of its decoder, taken in turns [s]."""
    device = str(state.latent.device)
    poses = np.repeat(state.last_pose.numpy()[:, None], model.frames_per_step, axis=1)
    latent, memory = state.latent[:, :, None], list(state.decoder)
    parts: dict[str, Callable[[], object]] = {
        "world model": lambda: model.step(state, poses),
        "decoder": lambda: model.engine.codec.decode_step(latent, memory),
    }
    times: dict[str, list[float]] = {name: [] for name in parts}
    with torch.no_grad():
        for turn in range(turns + 3):
            for name, part in parts.items():
                began = time.perf_counter()
                part()
                if device != "cpu":
                    torch.cuda.synchronize(device)
                if turn >= 3:  # the first ones warm up
                    times[name].append(time.perf_counter() - began)
    whole, decoder = times["world model"], times["decoder"]
    network = [a - b for a, b in zip(whole, decoder, strict=True)]
    return {"world model": whole, "its network": network, "its decoder": decoder}


def time_backends(options: Options, state: WorldState, turns: int) -> dict[str, Times]:
    """Steps of the world in several forms, taken in turns."""
    models = {
        name: shared_world(options.world, device=options.device, backend=name)
        for name in options.backends
    }
    states = {name: _in_dtype(state, model.network.dtype) for name, model in models.items()}
    times = {name: Times([], []) for name in models}
    last = state.last_pose.numpy()
    for turn in range(turns + 3):
        for name, model in models.items():
            wall, processor = time.perf_counter(), time.process_time()
            model.step(states[name], np.repeat(last[:, None], model.frames_per_step, axis=1))
            if turn >= 3:  # the first ones warm up, and compile
                times[name].wall.append(time.perf_counter() - wall)
                times[name].processor.append(time.process_time() - processor)
    return times


def _in_dtype(state: WorldState, dtype: torch.dtype) -> WorldState:
    """The state as a world of another precision keeps it: recurrences stay in float32."""
    kept = {}
    for name, tensor in state.tensors().items():
        recurs = name.rpartition(".")[2] in ("matrix", "mass", "camera_matrix")
        follows = name.startswith(("network.", "text.", "decoder.")) and not recurs
        kept[name] = tensor.to(dtype) if follows and tensor.is_floating_point() else tensor
    return state.with_tensors(kept)


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    policy = load_policy(options.policy)
    env = gym.make(
        "SanaWM-Drive-v0",
        world=options.world,
        device=options.device,
        backend=options.backend,
        horizon=options.seconds + 10.0,
        outcomes=None,
        drift=None,
    )
    model = shared_world(options.world, device=options.device, backend=options.backend)
    per_second = model.fps / model.frames_per_step
    num_decisions = max(1, round(options.seconds * per_second))
    drive(env, policy, options.seed, min(8, num_decisions))
    drives = [
        drive(env, policy, options.seed + index, num_decisions) for index in range(options.repeats)
    ]
    state = env.unwrapped.snapshot().state.world  # type: ignore[attr-defined]
    turns = min(60, num_decisions)
    parts = time_parts(model, state, turns)
    forms = time_backends(options, state, turns)

    length = num_decisions / per_second
    steps = [spent for one in drives for spent in one.steps]
    wall = float(np.median([one.wall for one in drives]))
    processor = float(np.median([one.processor for one in drives]))
    rows = [
        [f"a drive of {length:g} s, median of {options.repeats}", f"{wall:.2f} s", ""],
        ["real-time factor", f"{length / wall:.1f}", f"{length / processor:.1f} (processor)"],
        [
            "decisions/s",
            f"{num_decisions / wall:.1f}",
            f"{num_decisions / processor:.1f} (processor)",
        ],
        ["env.step, ms p50 / p95", quantiles_ms(steps), ""],
    ]
    rows += [[f"{name}, ms p50 / p95", quantiles_ms(spent), ""] for name, spent in parts.items()]
    fast = {name: float(np.quantile(times.processor, 0.25)) for name, times in forms.items()}
    for name, times in forms.items():
        ratio = f"{fast[options.backends[0]] / fast[name]:.2f} x {options.backends[0]}"
        rows.append([f"a step, {name}, ms p50 / p95", quantiles_ms(times.wall), ratio])
    Report(
        title=f"Speed of a drive, driver {options.policy}, no video written",
        columns=["what", "measured", "without waiting"],
        rows=rows,
        figures={
            "real_time_factor": length / wall,
            "decisions_per_second": num_decisions / wall,
            "real_time_factor_processor": length / processor,
            "step_ms_p50_p95": 1e3 * np.quantile(steps, [0.5, 0.95]),
            "parts_ms_p50_p95": {k: 1e3 * np.quantile(v, [0.5, 0.95]) for k, v in parts.items()},
            "forms_processor_ms_p25": {name: 1e3 * spent for name, spent in fast.items()},
            "wall_s": [one.wall for one in drives],
        },
    ).publish(options, options.out)


if __name__ == "__main__":
    main(tyro.cli(Options))
