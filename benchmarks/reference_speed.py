"""Frames a second of the reference world at 128 x 72, without traffic and with ten vehicles.

Every frame is simulated, drawn and measured (truth) as a recording does, at 0.8 m a frame so that
new ground has to be painted all the time. Times are processor seconds of this process on one
thread: what the frame costs, whatever else the machine does. `wall` is the clock on the wall.

    python benchmarks/reference_speed.py --worlds 12 --frames 160
"""

from __future__ import annotations

import dataclasses
import os
import platform
import time
from dataclasses import dataclass

import cv2
import numpy as np
import tyro

from sanawm_gym.envs.reference.scene import KINDS, SceneConfig, sample_scene
from sanawm_gym.envs.reference.world import ReferenceWorld, StartState


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to time.

    Attributes:
        worlds: Worlds a row, spread over the kinds of road, >= 1.
        frames: Frames a world, >= 1.
    """

    worlds: int = 14
    frames: int = 160


def scenes(count: int, num_vehicles: int) -> list[SceneConfig]:
    """Worlds of all kinds in turn."""
    found: list[SceneConfig] = []
    seed = 0
    while len(found) < count:
        scene = sample_scene(seed)
        if scene.kind == KINDS[len(found) % len(KINDS)]:
            found.append(dataclasses.replace(scene, num_vehicles=num_vehicles))
        seed += 1
    return found


def drive(scene: SceneConfig, num_frames: int) -> tuple[float, float, float]:
    """Processor and wall seconds of a drive, and the mean number of other vehicles."""
    world = ReferenceWorld(scene, length=25.0 * num_frames / 16, seed=0)
    world.start(StartState(speed=13.0))
    near = []
    process, wall = time.process_time(), time.perf_counter()
    for _ in range(num_frames):
        world.advance(world.expert_action())
        world.render()
        world.truth()
        near.append(len(world.traffic.states()))
    return time.process_time() - process, time.perf_counter() - wall, float(np.mean(near))


def main(options: Options) -> None:
    """Print the table."""
    cv2.setNumThreads(1)
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, one thread used\n"
    )
    print("| other vehicles | frames/s (processor) | slowest world | frames/s (wall) |")
    print("|---|---|---|---|")
    for num_vehicles in (0, 10):
        times = [drive(scene, options.frames) for scene in scenes(options.worlds, num_vehicles)]
        process, wall, near = np.array(times).T
        total = options.frames * len(times)
        print(
            f"| {near.mean():.1f} | {total / process.sum():.0f} | "
            f"{options.frames / process.max():.0f} | {total / wall.sum():.0f} |"
        )


if __name__ == "__main__":
    main(tyro.cli(Options))
