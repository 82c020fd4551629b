"""What a decision costs after a long drive: the recurrence against softmax over the whole past.

Networks of one size that differ only in their attention: all blocks recurrent, the world's own mix
(recurrent blocks and softmax over a short window), and all blocks softmax over every frame since
the start. Streams of a given length are put together directly, with random memory, since a decision
takes the same time whatever the numbers are; then a decision is timed as a world makes it: one
denoising pass, the clean pass that writes the memory, and the move of the origin. Weights are
random as well, so no training is needed. On a CPU processor seconds are counted, which other work
on the machine does not lengthen. Memory is what must be kept between two decisions.

    python benchmarks/flat_cost.py --out results/flat_cost.json --plot results/flat_cost.png

Axes: b rows, f frames of a window, s tokens, h heads, d channels of a head.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from curves import Curve, Panel, draw_panels
from report import Report
from tqdm import tqdm

from sanawm_gym.worldmodel.autoencoder import VideoAutoencoderConfig
from sanawm_gym.worldmodel.camera_condition import CameraCondition, moving_camera
from sanawm_gym.worldmodel.config import SanaWMConfig
from sanawm_gym.worldmodel.cross_attention import TextContext
from sanawm_gym.worldmodel.folder import read_config
from sanawm_gym.worldmodel.model import SanaWM
from sanawm_gym.worldmodel.source import find_world
from sanawm_gym.worldmodel.state import SanaWMState, WindowState, map_part
from sanawm_gym.worldmodel.world import WorldConfig


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to time.

    Attributes:
        world: World whose network gives the size: a bundled name, a folder or a hub id.
        lengths: Latent frames that a stream has seen, rising, each >= 1; four make a second in the
            bundled world.
        repeats: Decisions timed at every length, >= 3; the interval is their deviation.
        device: Torch device.
        threads: CPU threads of torch, >= 1.
        seed: Seed of weights and memory.
        out: JSON file to write.
        plot: PNG of time and memory against length to write.
    """

    world: str = "drive"
    lengths: tuple[int, ...] = (4, 16, 64, 128, 256, 512)
    repeats: int = 5
    device: str = "cpu"
    threads: int = 1
    seed: int = 0
    out: Path | None = None
    plot: Path | None = None


def variants(config: SanaWMConfig) -> dict[str, SanaWMConfig]:
    """The network's own form between its two extremes."""
    unlimited = {"num_cached_chunks": -1, "sink": False, "shifted_sink": False}
    return {
        "recurrent": dataclasses.replace(config, softmax_every_n=0),
        "as shipped": config,
        "softmax, whole past": dataclasses.replace(config, softmax_every_n=1, **unlimited),
    }


def aged(network: SanaWM, grid: tuple[int, int], length: int, device: str) -> SanaWMState:
    """State of one stream that has seen `length` frames, of random content."""
    state = network.initial_state(1, *grid, device=device)
    blocks = []
    for block in state.blocks:
        attention: Any = map_part(block.attention, torch.randn_like)
        if isinstance(attention, WindowState) and network.config.num_recent_frames < 0:
            shape = (1, length, *attention.key.shape[2:])
            attention = map_part(attention, lambda old, shape=shape: old.new_empty(shape).normal_())
        blocks.append(dataclasses.replace(block, attention=attention))
    age = torch.full_like(state.num_chunks, length)
    return dataclasses.replace(state, num_chunks=age, blocks=tuple(blocks))


def inputs(
    network: SanaWM, size: tuple[int, int], grid: tuple[int, int], device: str
) -> tuple[torch.Tensor, TextContext, CameraCondition]:
    """A latent frame, a prompt and a camera that goes on by a step."""
    config = network.config
    path = torch.eye(4, dtype=torch.float64).repeat(1, config.temporal_stride, 1, 1)
    path[..., 2, 3] = 0.5 * torch.arange(1, config.temporal_stride + 1)
    lens = torch.tensor([[0.7 * size[1], 0.7 * size[1], size[1] / 2, size[0] / 2]])
    camera, _ = moving_camera(
        path,
        lens.double(),
        image_size=size,
        grid=grid,
        config=config,
        last_pose=torch.eye(4, dtype=torch.float64)[None],
    )
    x = torch.randn(1, config.in_channels, 1, *grid, device=device)
    if config.warp_condition:
        camera = dataclasses.replace(camera, warped=torch.randn_like(x.cpu()))
    tokens = torch.randn(1, 16, config.caption_channels, device=device)
    text = network.encode_text(tokens, torch.ones(1, 16, dtype=torch.bool, device=device))
    return x, text, camera.to(device)


@torch.no_grad()
def decide(network: SanaWM, state: SanaWMState, given: Any) -> SanaWMState:
    """One decision as `WorldModel.step` makes it, without the pictures."""
    x, text, camera = given
    noise, clean = torch.full((1, 1), 1000.0, device=x.device), torch.zeros(1, 1, device=x.device)
    network.step(x, noise, text, camera, state, update_state=False)
    _, following = network.step(x, clean, text, camera, state, update_state=True)
    moved = torch.eye(4, dtype=torch.float64, device=x.device)[None].clone()
    moved[:, 2, 3] = -2.0
    return following.reanchor(moved)


def measure(options: Options, config: SanaWMConfig) -> dict[str, list[Any]]:
    """Times [s] and kept bytes at every length."""
    folder = find_world(options.world)
    picture = read_config(folder / "world.json", WorldConfig)
    stride = read_config(folder / "autoencoder.json", VideoAutoencoderConfig).spatial_stride
    size, grid = (
        (picture.height, picture.width),
        (picture.height // stride, picture.width // stride),
    )
    torch.manual_seed(options.seed)
    network = SanaWM(config).eval().requires_grad_(False).to(options.device)
    given = inputs(network, size, grid, options.device)
    clock = time.process_time if options.device == "cpu" else time.perf_counter
    found: dict[str, list[Any]] = {"seconds": [], "bytes": []}
    for length in options.lengths:
        state = aged(network, grid, length, options.device)
        found["bytes"].append(state.num_bytes)
        times = []
        for _ in range(options.repeats + 1):
            begin = clock()
            decide(network, state, given)
            if options.device != "cpu":
                torch.cuda.synchronize(options.device)
            times.append(clock() - begin)
        found["seconds"].append(times[1:])  # the first one warms caches
    return found


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    config = read_config(find_world(options.world) / "network.json", SanaWMConfig)
    found = {
        name: measure(options, one)
        for name, one in tqdm(variants(config).items(), desc="networks", unit="network")
    }
    if options.plot is not None:
        _plot(options.plot, options, found)
    rows = []
    for name, figures in found.items():
        rows.append([f"{name}, ms"])
        rows[-1] += [
            f"{1e3 * np.mean(one):.1f} ± {1e3 * np.std(one, ddof=1):.1f}"
            for one in figures["seconds"]
        ]
        rows.append([f"{name}, MiB kept", *(f"{one / 2**20:.1f}" for one in figures["bytes"])])
    Report(
        title="A decision of the network by length of the drive",
        columns=["network", *(f"{length} frames" for length in options.lengths)],
        rows=rows,
        figures=found,
        notes=[f"{options.repeats} decisions each, mean ± deviation; no pictures are decoded."],
    ).publish(options, options.out)


def _plot(path: Path, options: Options, found: dict[str, dict[str, list[Any]]]) -> None:
    times, sizes = {}, {}
    for name, figures in found.items():
        mean, spread = (
            [1e3 * float(part(one)) for one in figures["seconds"]] for part in (np.mean, np.std)
        )
        times[name] = Curve(x=options.lengths, y=mean, spread=spread)
        sizes[name] = Curve(x=options.lengths, y=[one / 2**20 for one in figures["bytes"]])
    shared = {"x_label": "latent frames seen", "logarithmic": True}
    draw_panels(
        path,
        [
            Panel(title="time of a decision", y_label="ms", curves=times, **shared),
            Panel(title="memory of a stream", y_label="MiB", curves=sizes, **shared),
        ],
    )


if __name__ == "__main__":
    main(tyro.cli(Options))
