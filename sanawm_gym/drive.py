"""The main job of the project: a policy drives a generated world and the drive becomes a video.

The loop is the one anybody would write against the Gymnasium API (make, reset, act, step, render);
the rest is showing it: every raw frame enlarged under a dashboard and streamed to the file as it
comes, so that memory does not grow with the length of the drive.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import gymnasium as gym
import numpy as np
import tyro
from numpy.typing import NDArray
from tqdm import tqdm

from sanawm_gym.agents import Policy, load_policy
from sanawm_gym.overlay import Overlay
from sanawm_gym.video import VideoWriter

ENV_ID = "SanaWM-Drive-v0"
# Positions in the observation's `ego` vector.
_SPEED, _STEER = 0, 1
# x264 quality of the video: small enough to send around, no blocks that could pass for the world's.
_CRF = 18
_BAR = "{desc} {percentage:3.0f}% |{bar}| {n:.0f}/{total:.0f} s of world, {elapsed} gone"


@dataclass(frozen=True, kw_only=True)
class DriveJob:
    """Drive a policy through a generated world and write the video."""

    world: str = "drive"
    """World model: a bundled name, a folder or a hub id."""
    policy: Annotated[str, tyro.conf.arg(metavar="NAME|FILE")] = "cloned"
    """Driver: cloned steers by the pictures, ppo went on from it in the generated world; constant
    and random do not look; lane-keeper, pure-pursuit, idm and reckless need a world with heads; or
    a file of weights."""
    seconds: float = 60.0
    """Length of the drive [s], above 0."""
    seed: int = 0
    """Seed of start, world and policy, at least 0; the same seed gives the same video."""
    start: Annotated[str | None, tyro.conf.arg(metavar="CONTEXT|IMAGE")] = None
    """Where the drive begins: a bundled start context or an image file; else the seed chooses."""
    prompt: Annotated[str | None, tyro.conf.arg(metavar="TEXT")] = None
    """What the world should look like; the caption of the start context if not given. Where the
    start speaks against it, add --guidance 3."""
    guidance: Annotated[float | None, tyro.conf.arg(metavar="SCALE")] = None
    """How far to go beyond what the prompt alone gives, at least 0; costs a second pass of the
    network a step. The world's own if not given: 1, which costs nothing."""
    out: Path = Path("drive.mp4")
    """Video file to write (.mp4); folders on the way are made."""
    threads: int = 1
    """CPU threads of the world model, at least 1; more help only on idle cores."""
    refine: bool = False
    """Show what the world's refiner makes of the drawn pictures; slower."""
    backend: Annotated[str, tyro.conf.arg(metavar="auto|plain|fused|openvino")] = "auto"
    """Form in which the world steps; openvino needs the extra fast and seconds to compile."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise ValueError(f"seconds: got {self.seconds}, expected a positive number; try 60")
        if self.seed < 0:
            raise ValueError(f"seed: got {self.seed}, expected 0 or more; try 0")
        if self.out.suffix.lower() != ".mp4":
            raise ValueError(f"out: got {self.out}, expected a .mp4 file; try drive.mp4")
        if self.out.is_dir():
            raise ValueError(f"out: got the folder {self.out}, expected a file; add a file name")
        if self.guidance is not None and not 0 <= self.guidance < math.inf:
            raise ValueError(f"guidance: got {self.guidance}, expected 0 or more; try 3")
        if self.threads < 1:
            raise ValueError(f"threads: got {self.threads}, expected 1 or more; try 1")


@dataclass(frozen=True, kw_only=True)
class DriveReport:
    """What came of a drive."""

    path: Path
    """The video."""
    world_seconds: float
    """Time that passed in the world [s]."""
    wall_seconds: float
    """Time that the drive took, from the reset to the closed video [s]."""
    num_decisions: int
    """Decisions of the policy."""
    reward: float
    """Sum of the rewards."""
    metres: float
    """Way driven [m]."""

    @property
    def real_time_factor(self) -> float:
        """Seconds of world for each second of waiting."""
        return self.world_seconds / self.wall_seconds

    def __str__(self) -> str:
        """Return the lines that the command prints."""
        return (
            f"{self.world_seconds:.1f} s of world in {self.wall_seconds:.1f} s: "
            f"{self.real_time_factor:.1f} x real time, "
            f"{self.num_decisions / self.wall_seconds:.0f} decisions/s with the video\n"
            f"reward {self.reward:.1f}, {self.metres:.0f} m driven\n"
            f"wrote {self.path}"
        )


def drive(job: DriveJob) -> DriveReport:
    """Run the job, print the report and return it.

    Raises:
        ValueError: If the world, the policy or the start is unknown or unreadable.
    """
    # Slow to import, and `sanawm-gym drive --help` shall answer at once.
    import torch

    from sanawm_gym.worldmodel.official.layout import is_release

    if is_release(job.world):
        raise ValueError(
            f"world: got {job.world}, released SANA-WM weights, expected a world of this project, "
            "whose pictures and pace its drivers know; drive released ones from Python "
            "(docs/official.md), or film a drive: sanawm-gym render --controls drive.csv"
        )
    policy = load_policy(job.policy)
    torch.set_num_threads(job.threads)
    env = gym.make(
        ENV_ID,
        render_mode="rgb_array_list",
        world=job.world,
        start=job.start,
        prompt=job.prompt,
        guidance=job.guidance,
        horizon=job.seconds,
        refine=job.refine,
        backend=job.backend,
        # A film is as long as was asked for, whatever driver and world make of it.
        outcomes=None,
        drift=None,
    )
    try:
        job.out.parent.mkdir(parents=True, exist_ok=True)
        fps = int(env.metadata["render_fps"])
        report = _film(_decisions(env, policy, job.seed), fps=fps, job=job)
    finally:
        env.close()
    print(report)
    return report


@dataclass(frozen=True, kw_only=True)
class _Decision:
    """What one decision brought."""

    frames: list[NDArray[np.uint8]]
    """The raw frames that were drawn, (h, w, 3) each."""
    speed: NDArray[np.floating[Any]]
    """Speed at every frame [m/s]."""
    steer: NDArray[np.floating[Any]]
    """Angle of the road wheels at every frame [rad], positive to the left."""
    reward: float
    """Reward of the decision."""


def _film(decisions: Iterator[_Decision], *, fps: int, job: DriveJob) -> DriveReport:
    """Stream the decisions to the video and sum them up."""
    overlay = Overlay()
    reward, metres, num_decisions, num_frames = 0.0, 0.0, 0, 0
    bar = tqdm(total=job.seconds, desc="driving", unit="s", bar_format=_BAR)
    with bar, VideoWriter(job.out, fps, crf=_CRF, pixel_format="yuv420p") as video:
        began = time.perf_counter()
        for decision in decisions:
            motion = zip(decision.frames, decision.speed, decision.steer, strict=True)
            for frame, speed, steer in motion:
                video.append(overlay.draw(frame, speed=float(speed), steer=float(steer)))
            reward += decision.reward
            metres += float(decision.speed.sum()) / fps
            num_decisions += 1
            num_frames += len(decision.frames)
            bar.update(len(decision.frames) / fps)
    return DriveReport(
        path=job.out,
        world_seconds=num_frames / fps,
        wall_seconds=time.perf_counter() - began,
        num_decisions=num_decisions,
        reward=reward,
        metres=metres,
    )


def _decisions(env: gym.Env[Any, Any], policy: Policy, seed: int) -> Iterator[_Decision]:
    """Drive one episode."""
    observation, info = env.reset(seed=seed)
    policy.reset([seed])
    _rendered(env)  # the start context: given, not generated, so it is not part of the drive
    done = False
    while not done:
        before = observation["ego"]
        batch = {name: value[None] for name, value in observation.items()}
        observation, reward, terminated, truncated, info = env.step(policy.act(batch, [info])[0])
        frames = _rendered(env)
        # Straight lines between decisions: for the eye, the motion itself is the world's business.
        share = np.arange(1, len(frames) + 1)[:, None] / len(frames)
        motion = before + share * (observation["ego"] - before)
        yield _Decision(
            frames=frames,
            speed=motion[:, _SPEED],
            steer=motion[:, _STEER],
            reward=float(reward),
        )
        done = terminated or truncated


def _rendered(env: gym.Env[Any, Any]) -> list[NDArray[np.uint8]]:
    """Every raw frame since the last call."""
    # Gymnasium types what any render mode may return; this one is known.
    return cast("list[NDArray[np.uint8]]", env.render())
