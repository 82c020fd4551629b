"""The parts of the released world, run and timed.

On a GPU times are those between CUDA events, memory is that of torch's allocator; elsewhere times
are of the wall, and memory is not read.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from arithmetic import network_pass, refiner_pass
from full_size_estimate import chunk_flops, clip_flops
from released_random import Release, lens, walk

from sanawm_gym.worldmodel.camera_condition import clip_camera
from sanawm_gym.worldmodel.official.overlap import draw_ahead
from sanawm_gym.worldmodel.official.parts import OfficialParts
from sanawm_gym.worldmodel.official.state import OfficialState
from sanawm_gym.worldmodel.official.stream import Screen, Stream


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Of one part.

    Attributes:
        seconds: Of every repetition.
        flops: Operations of one; None where they are not known.
        peak: Most bytes allocated, and reserved from the device; None without a GPU.
    """

    seconds: list[float]
    flops: int | None
    peak: tuple[int, int] | None

    @property
    def median(self) -> float:
        """Median time [s]."""
        return float(np.median(self.seconds))

    @property
    def rate(self) -> float | None:
        """Operations a second."""
        return None if self.flops is None else self.flops / self.median


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where and how often something is timed.

    Attributes:
        device: Device.
        repeats: Timed calls.
        warm_up: Calls before them.
    """

    device: torch.device
    repeats: int
    warm_up: int

    def time(self, work: Callable[[], Any], flops: int | None, once: bool = False) -> Timing:
        """Time a call; `once` without warming up and repetition, for minutes."""
        for _ in range(0 if once else self.warm_up):
            work()
        self.wait()
        gpu = self.device.type == "cuda"
        if gpu:
            torch.cuda.reset_peak_memory_stats(self.device)
        seconds = [self._one(work) for _ in range(1 if once else self.repeats)]
        peak = None
        if gpu:
            peak = (
                torch.cuda.max_memory_allocated(self.device),
                torch.cuda.max_memory_reserved(self.device),
            )
        return Timing(seconds=seconds, flops=flops, peak=peak)

    def wait(self) -> None:
        """Until all that was queued is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _one(self, work: Callable[[], Any]) -> float:
        if self.device.type != "cuda":
            begin = time.perf_counter()
            work()
            return time.perf_counter() - begin
        begins, ends = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begins.record()
        work()
        ends.record()
        ends.synchronize()
        return float(begins.elapsed_time(ends)) / 1e3


def matrix_ceiling(bench: Bench, dtype: torch.dtype, size: int) -> Timing:
    """A large matrix product: what this device's matrix units give."""
    left, right = (torch.randn(size, size, device=bench.device).to(dtype) for _ in range(2))
    return bench.time(lambda: left @ right, 2 * size**3)


@dataclass(frozen=True, kw_only=True)
class World:
    """A released stream of random weights, at its beginning.

    Attributes:
        release: Sizes.
        stream: Draws.
        begun: State before the first chunk.
        latents: Of a chunk, to refine and decode.
    """

    release: Release
    stream: Stream
    begun: OfficialState
    latents: torch.Tensor = field(repr=False)

    @staticmethod
    def of(release: Release, parts: OfficialParts) -> World:
        """Begin a stream; with a refiner, a refined one."""
        config = release.network
        screen = Screen(picture=release.picture, grid=release.grid)
        stream = Stream(parts=parts, sampling=release.sampling, screen=screen)
        shape = (1, config.in_channels, config.chunk_size, *release.grid)
        latents = torch.randn(shape, device=parts.device)
        here = torch.eye(4, dtype=torch.float64)[None]
        begun = stream.begin(latents[:, :, :1], ["a street"], lens(release), [0], here)
        if parts.refiner is not None:
            features = torch.randn(
                1, release.refiner_text, release.refiner.caption_channels, device=parts.device
            )
            mask = torch.ones(features.shape[:2], dtype=torch.bool, device=parts.device)
            memory = parts.refiner.start(latents[:, :, :1], features, mask)
            begun = replace(begun, refined=memory)
        return World(release=release, stream=stream, begun=begun, latents=latents)

    def path(self, chunks: int) -> torch.Tensor:
        """Cameras of so many chunks."""
        return walk(chunks * self.stream.frames_per_chunk)


@torch.no_grad()
def time_chunks(bench: Bench, world: World, draw: Any) -> dict[str, Timing]:
    """The first chunk of a stream, and one of all those after the window is full."""
    release, stream = world.release, replace(world.stream, draw=draw)
    config, size = release.network, stream.frames_per_chunk
    path, begun = world.path(3), world.begun
    first = bench.time(
        lambda: stream.next_chunk(begun, path[:, :size]),
        chunk_flops(release, config.first_chunk_size),
    )
    full = begun
    for part in path[:, : 2 * size].split(size, dim=1):
        full = stream.next_chunk(full, part)[1]
    later = bench.time(
        lambda: stream.next_chunk(full, path[:, 2 * size :]),
        chunk_flops(release, config.chunk_size),
    )
    return {"first chunk": first, "chunk": later}


@torch.no_grad()
def time_minute(bench: Bench, world: World, draw: Any) -> Timing:
    """The whole clip, chunk after chunk; time chunks before it, so that they are recorded."""
    stream = replace(world.stream, draw=draw)
    path = world.path(world.release.chunks)
    return bench.time(lambda: stream.whole(world.begun, path), clip_flops(world.release), once=True)


@torch.no_grad()
def time_clip_pass(bench: Bench, world: World, frames: int, theirs: bool) -> dict[str, Timing]:
    """One bidirectional pass, by this project and by diffusers on the same inputs and weights."""
    release, parts = world.release, world.stream.parts
    network, config, device = parts.network, release.network, parts.device
    path = walk(config.temporal_stride * (frames - 1) + 1)
    camera = clip_camera(
        path, lens(release), image_size=release.picture, grid=release.grid, config=config
    ).to(device)
    x = torch.randn(1, config.in_channels, frames, *release.grid, device=device)
    level = torch.full((1, frames), 800.0, device=device)
    features, mask = parts.text.encode(["a street"])
    features = features.to(network.dtype)
    text = network.encode_text(features, mask)
    flops = sum(network_pass(config, release.tokens, frames, text=release.text).values())
    found = {"here": bench.time(lambda: network(x, level, text, camera), flops)}
    if theirs:
        from diffusers.models.transformers.transformer_sana_wm import SanaWMTransformer3DModel

        # Not on the meta device: its rotary table is neither parameter nor buffer.
        with device:
            reference: Any = SanaWMTransformer3DModel(
                in_channels=config.in_channels, num_layers=config.num_layers,
                hidden_size=config.hidden_size, num_attention_heads=config.num_attention_heads,
                linear_head_dim=config.head_dim, caption_channels=config.caption_channels,
                softmax_every_n=config.softmax_every_n,
            )  # fmt: skip
        reference.load_state_dict(network.state_dict(), assign=True)
        reference.eval()
        pose = torch.cat([camera.world_from_camera.flatten(2), camera.intrinsics], dim=-1)
        rays = camera.plucker
        assert rays is not None
        half = network.dtype
        found["diffusers"] = bench.time(
            lambda: reference(
                x.to(half), level[:, None], features[:, None], encoder_attention_mask=mask,
                camera_conditions=pose.to(half), chunk_plucker=rays.to(half),
            ),
            flops,
        )  # fmt: skip
    return found


@torch.no_grad()
def time_refiner(bench: Bench, world: World) -> Timing:
    """A refined chunk whose history is full."""
    release, stream = world.release, world.stream
    memory, clock = world.begun.refined, (world.begun.seeds, world.begun.steps)
    assert memory is not None
    frames = world.latents.shape[2]
    for _ in range(-(-release.refiner.history_frames // frames)):
        memory = stream.refine(world.latents, clock, memory)[1]
    sizes: dict[str, Any] = {"past": release.refiner.window_frames, "text": release.refiner_text}
    flops = sum(
        refiner_pass(release.refiner, release.tokens, frames, keys_only=last, **sizes)
        for last in [False] * len(release.refiner.sigmas) + [True]
    )
    return bench.time(lambda: stream.refine(world.latents, clock, memory), flops)


@torch.no_grad()
def time_decoder(bench: Bench, world: World) -> Timing:
    """Pictures of a chunk."""
    _, memory = world.stream.show(world.latents, ())
    return bench.time(lambda: world.stream.show(world.latents, memory), None)


@torch.no_grad()
def time_pipeline(bench: Bench, world: World, draw: Any) -> Timing:
    """The whole clip with all that the world has, drafts running ahead of what is shown."""
    stream = replace(world.stream, draw=draw)
    path = world.path(world.release.chunks)

    def run() -> None:
        for _ in draw_ahead(stream, world.begun, path):
            pass

    return bench.time(run, None, once=True)
