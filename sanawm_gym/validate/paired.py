"""Paired drives: the reference world is driven, the generated one repeats every action.

The car moves alike in both (see `starts.py`), so at every decision one can ask whether both saw the
same. Four manners of driving bring about what is asked for: `lane` and `trembling` stay on the road
(mostly), `leaving` goes off it to either side, `weaving` steers left and right whatever the road.
Nothing ends a drive, so that the time after an ending is there too; who would have ended it when
follows from the rules afterwards.

Axes: n drives, t decisions, q quantities.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from sanawm_gym.agents.policy import Policy
from sanawm_gym.agents.road_drivers import LaneKeeper
from sanawm_gym.agents.scripted import ConstantPolicy
from sanawm_gym.envs.reading import QUANTITIES, Reading
from sanawm_gym.envs.road_filter import RoadBelief, RoadFilterConfig, motion_between
from sanawm_gym.validate.clean_pass import read_video
from sanawm_gym.validate.drawn_yaw import (
    OFF_ROAD,
    SPEEDS,
    STEP,
    prescribed_yaw_rates,
    seen,
    steering_action,
)
from sanawm_gym.validate.generated import GeneratedDrives
from sanawm_gym.validate.panel import Impaired
from sanawm_gym.validate.setup import Setup, Unit
from sanawm_gym.validate.starts import LEAD, ReferenceDrive, SharedStart, fitted
from sanawm_gym.vehicle import VehicleConfig

MANNERS = ("lane", "trembling", "leaving", "weaving")
WEAVING = "weaving"
SHOWN = (0.0, 1.0, 2.0, 4.0, 8.0)
"""Seconds whose pictures are kept for the sheet."""
_LEADS = [QUANTITIES.index("lead_distance"), QUANTITIES.index("lead_speed")]
_HAS_LEAD = QUANTITIES.index("has_lead")


@dataclass
class _Drive:
    """What is kept of one drive of the reference world."""

    actions: list[np.ndarray] = field(default_factory=list)
    truth: list[np.ndarray] = field(default_factory=list)
    reward: list[float] = field(default_factory=list)
    terms: list[dict[str, float]] = field(default_factory=list)
    off_road: list[bool] = field(default_factory=list)
    far_off: list[bool] = field(default_factory=list)
    yaw: list[tuple[float, float]] = field(default_factory=list)
    frames: list[np.ndarray] = field(default_factory=list)
    poses: list[np.ndarray] = field(default_factory=list)
    cars: list[np.ndarray] = field(default_factory=list)


class Weaver:
    """Follows the prescribed yaw rates of its seed at the speed it began with."""

    def __init__(self, num: int) -> None:
        self._num, self._at, self._hold = num, 0, 0.0
        self._rates = np.zeros(num)

    def reset(self, seeds: Sequence[int]) -> None:
        """Draw the sequence."""
        (seed,) = seeds
        self._rates, self._at, self._hold = prescribed_yaw_rates(seed, self._num, STEP), 0, 0.0

    def act(self, observation: Any, infos: Any = None) -> np.ndarray:
        """Steer on."""
        speed = float(observation["ego"][0, 0])
        self._hold = self._hold or float(np.clip(speed, *SPEEDS))
        action = steering_action(speed, float(self._rates[self._at]), self._hold)
        self._at += 1
        return action[None]


def driver(manner: str, number: int, num_decisions: int) -> Policy:
    """Who drives the reference world.

    Args:
        manner: One of `MANNERS`.
        number: Of the start; `leaving` leaves to the left from even ones.
        num_decisions: Length of the drive.
    """
    side = 1.0 if number % 2 == 0 else -1.0
    builders: dict[str, Callable[[], Policy]] = {
        "lane": LaneKeeper,
        "trembling": lambda: Impaired(LaneKeeper(), tremble=0.25),
        "leaving": lambda: ConstantPolicy(steer=0.04 * side, throttle=0.0),
        WEAVING: lambda: Weaver(num_decisions),
    }
    return builders[manner]()


def units(setup: Setup, manners: Sequence[str] = MANNERS) -> list[Unit]:
    """Work that the parts which use paired drives need."""
    found = []
    for manner in manners:
        for numbers in setup.batches():
            name = f"pairs-{manner}-{numbers[0]:03d}"
            found.append(
                Unit(
                    name=name,
                    label=f"pairs, {manner}",
                    weight=len(numbers) * setup.job.num_decisions * 0.1,
                    work=partial(measure, setup, name, manner, numbers),
                )
            )
    return found


def load(setup: Setup, manners: Sequence[str] = MANNERS) -> dict[str, list[dict[str, Any]]]:
    """Drives by manner, those of all batches one after the other."""
    return {
        manner: [
            drive
            for numbers in setup.batches()
            for drive in setup.store.load(f"pairs-{manner}-{numbers[0]:03d}")["drives"]
        ]
        for manner in manners
    }


def measure(setup: Setup, name: str, manner: str, numbers: list[int]) -> None:
    """Drive some starts in both worlds and keep what came of it."""
    starts = [setup.starts[number] for number in numbers]
    seeds, reference = setup.noise_seeds(numbers), setup.reference(frames=True)
    steps = setup.job.num_decisions
    drives, clean = [], []
    for number, start, seed in zip(
        tqdm(numbers, desc=f"reference, {manner}", leave=False), starts, seeds, strict=True
    ):
        drives.append(_drive(reference, start, driver(manner, number, steps), seed, steps, manner))
        clean.append(_read_clean(setup, start, drives[-1]) if setup.has_heads else {})
    kept, pictures = _repeat(setup, starts, seeds, drives, manner)
    rows = []
    for drive, read, other in zip(drives, clean, kept, strict=True):
        rows.append(
            {
                "truth": drive.truth,
                "off_road": drive.off_road,
                "reward": drive.reward,
                "terms": drive.terms,
                **({"far_off": drive.far_off, "yaw": drive.yaw} if manner == WEAVING else {}),
                **read,
                "generated": other,
            }
        )
    shown = [round(4 * second) for second in SHOWN if 4 * second <= steps]
    true = np.stack([[_picture(start, drive, at) for at in shown] for start, drive in
                     zip(starts, drives, strict=True)])  # fmt: skip
    setup.store.save(name, {"drives": rows}, {"reference": true, "generated": pictures[:, shown]})


def _picture(start: SharedStart, drive: _Drive, decision: int) -> np.ndarray:
    return np.asarray(drive.frames[decision - 1][-1] if decision else start.context.frames[-1])


def _drive(
    reference: ReferenceDrive,
    start: SharedStart,
    policy: Policy,
    seed: int,
    steps: int,
    manner: str,
) -> _Drive:
    """Drive the reference world from a start."""
    reference.begin(start)
    policy.reset([seed])
    drive = _Drive(cars=[_car(reference.info)])
    for _ in range(steps):
        batch = {key: value[None] for key, value in reference.observation.items()}
        action = policy.act(batch, [reference.info])[0]
        before = (reference.observation["camera"], reference.info["world_from_camera"])
        reward, _ = reference.step(action)
        info = reference.info
        drive.actions.append(action)
        drive.truth.append(truth_row(info["truth"]))
        drive.reward.append(reward)
        drive.terms.append(info["reward_terms"])
        drive.off_road.append(reference.is_off_road)
        drive.frames.append(info["frames"])
        drive.poses.append(info["frame_poses"])
        drive.cars.append(_car(info))
        if manner == WEAVING:
            drive.far_off.append(bool(reference.env.world.outside() > OFF_ROAD))
            drive.yaw.append(_turn(before, info))
    return drive


def _car(info: dict[str, Any]) -> np.ndarray:
    """x, y and yaw of the car, (1, 3)."""
    return np.array([[*info["position"], info["yaw"]]])


def truth_row(truth: dict[str, Any]) -> np.ndarray:
    """`QUANTITIES` of one moment; NaN for the vehicle ahead where there is none."""
    row = Reading.of_truth(truth).mean[0]
    if row[_HAS_LEAD] < 0.5:
        row[_LEADS] = np.nan
    return np.asarray(row)


def _turn(before: tuple[np.ndarray, np.ndarray], info: dict[str, Any]) -> tuple[float, float]:
    """Commanded and drawn yaw rate of a decision [rad/s]."""
    frames = np.concatenate([before[0][None], info["frames"]])
    poses = np.concatenate([before[1][None], info["frame_poses"]])
    return seen(frames, poses, info["intrinsics"], STEP)


def _read_clean(setup: Setup, start: SharedStart, drive: _Drive) -> dict[str, np.ndarray]:
    """What is known of the road from the reference video of a drive, after its lead-in.

    Heads read every picture, and the filter of the environment puts these and the motion together.
    """
    world, lead = setup.world, start.context
    frames, lens = fitted(
        np.concatenate([lead.frames, *drive.frames]), start, world.width, world.height
    )
    path = np.concatenate([start.poses, *drive.poses])
    mean, deviation = read_video(world, frames, path, lens, lead.caption)
    assert world.heads is not None
    spread = world.heads.scale.double().cpu().numpy()
    axle = np.array([VehicleConfig().rear_axle_to_center])
    belief, told = None, []
    for at, car in enumerate(drive.cars):
        read = Reading(mean=mean[LEAD + at, None], deviation=deviation[LEAD + at, None])
        if belief is None:
            belief = RoadBelief.begin(read)
            continue
        moved = motion_between(drive.cars[at - 1], car)
        belief = RoadFilterConfig().follow(belief, moved, read, spread)
        told.append(belief.told(read, axle))
    known = Reading.concat(told)
    return {"clean_mean": known.mean, "clean_deviation": known.deviation}


def _repeat(
    setup: Setup,
    starts: list[SharedStart],
    seeds: list[int],
    drives: list[_Drive],
    manner: str,
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Take the same actions in the generated world."""
    given = {"frames_in_info": manner == WEAVING}
    envs = GeneratedDrives(starts, seeds, setup.generated_settings(**given))
    kept: list[dict[str, Any]] = [
        {"reward": [], "terms": [], "mean": [], "deviation": [], "yaw": []} for _ in starts
    ]
    pictures = [envs.observation["camera"].copy()]
    actions = np.stack([drive.actions for drive in drives], axis=1)
    for action in tqdm(actions, desc=f"generated, {manner}", leave=False):
        before = [
            (envs.observation["camera"][row].copy(), envs.infos[row]["world_from_camera"])
            for row in range(len(starts))
        ]
        living = list(envs.living)
        rewards = envs.step(action)
        for row in living:
            info, one = envs.infos[row], kept[row]
            one["reward"].append(rewards[row])
            one["terms"].append(info["reward_terms"])
            if setup.has_heads:
                for key in ("mean", "deviation"):
                    one[key].append([info["perceived"][name][key] for name in QUANTITIES])
            if manner == WEAVING:
                one["yaw"].append(_turn(before[row], info))
        pictures.append(envs.observation["camera"].copy())
    envs.close()
    return kept, np.stack(pictures, axis=1)
