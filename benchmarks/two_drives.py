"""Two drivers on the same road of the reference world, side by side in one video."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from roads import RoadConfig, make_env

from sanawm_gym.agents import load_policy
from sanawm_gym.video import VideoWriter

SCALE = 4
"""Enlargement of the pictures."""
BAR = 28
"""Height of the line of text above a picture [px]."""
FPS = 16.0

Picture = UInt8[np.ndarray, "h w 3"]


def film(path: Path, drivers: Mapping[str, Path], config: RoadConfig, world_seed: int) -> None:
    """Write the video.

    Args:
        path: MP4.
        drivers: Files of the drivers by what stands above their pictures.
        config: How long, and how many other cars.
        world_seed: The road.
    """
    drives = [_frames(label, file, config, world_seed) for label, file in drivers.items()]
    newest = [next(drive) for drive in drives]
    with VideoWriter(path, FPS, crf=18) as video:
        while True:
            video.append(np.concatenate(newest, axis=1))
            going = [next(drive, None) for drive in drives]
            if all(picture is None for picture in going):
                break
            # Whoever has ended stands still until the other has, too.
            newest = [
                before if now is None else now for before, now in zip(newest, going, strict=True)
            ]
    print(f"wrote {path}")


def _frames(label: str, file: Path, config: RoadConfig, world_seed: int) -> Iterator[Picture]:
    """Every raw frame of a drive, enlarged and with a line of text."""
    env, policy = make_env(config, "rgb_array_list"), load_policy(file)
    observation, info = env.reset(seed=world_seed % 2**31, options={"world_seed": world_seed})
    policy.reset([world_seed % 2**31])
    over, score = False, 0.0
    while True:
        pictures: Any = env.render()
        said = f"{label}   {observation['ego'][0]:4.1f} m/s   return {score:5.1f}"
        if over:
            said += f"   {info['termination_reason'] or 'end'}"
        for picture in pictures:
            yield _titled(picture, said)
        if over:
            break
        seen = {name: value[None] for name, value in observation.items()}
        observation, reward, ended, late, info = env.step(policy.act(seen, [info])[0])
        score += float(reward)
        over = ended or late
    env.close()


def _titled(picture: Picture, text: str) -> Picture:
    height, width = (SCALE * side for side in picture.shape[:2])
    canvas = Image.new("RGB", (width, height + BAR))
    canvas.paste(
        Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC), (0, BAR)
    )
    ImageDraw.Draw(canvas).text((8, 6), text, font=ImageFont.load_default(15))
    return np.asarray(canvas)
