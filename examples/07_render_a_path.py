"""Compose a camera path, look at it, and render it from one picture.

    python examples/07_render_a_path.py --out render

Writes path.png (the path from above, with its speeds) and path.mp4 (what the world draws along it),
and path.npz, which `sanawm-gym render --poses` and other tools of SANA-WM read.
"""

import argparse
import math
from pathlib import Path

import numpy as np

from sanawm_gym.paths.camera_path import CameraPath
from sanawm_gym.paths.driving import driven_path
from sanawm_gym.paths.envelope import CAR, departures
from sanawm_gym.paths.files import write_path
from sanawm_gym.paths.plot import write_plot
from sanawm_gym.render.course import CourseConfig
from sanawm_gym.render.job import RenderJob, render


def slalom(seconds: float) -> CameraPath:
    """A car that swings left and right at 8 m/s."""
    times = np.arange(0.0, seconds, 0.25)
    steer = 0.2 * np.sin(2 * math.pi * times / 4.0)
    controls = np.stack([steer, np.zeros_like(times), np.full_like(times, 0.25)], axis=1)
    return driven_path(controls, speed=8.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--world", default="drive", help="bundled name, folder or hub id")
    parser.add_argument("--image", default=None, help="picture or start context; else by seed")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--out", type=Path, default=Path("render"))
    options = parser.parse_args()

    path = slalom(options.seconds)
    outside = departures(path, CAR)
    print("inside what a car can do" if not outside else "\n".join(outside))
    write_plot(path, options.out / "path.png", CAR)
    write_path(path, options.out / "path.npz")

    job = RenderJob(
        world=options.world,
        image=options.image,
        course=CourseConfig(poses=options.out / "path.npz", poses_pitch_deg=0.0),
        out=options.out / "path.mp4",
    )
    report = render(job)
    print(f"{report.path.num_frames} frames along {report.path.speeds().sum() / 16:.1f} m")


if __name__ == "__main__":
    main()
