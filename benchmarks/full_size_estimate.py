"""What the released stage 1 costs at full size, by arithmetic: no GPU and no weights are needed.

Operations follow from the sizes (`arithmetic`), bytes from counting every operation of the real
network on the meta device (`live_bytes`). Floors are what a card of the given rates could not go
below; nothing here is a measurement of speed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from arithmetic import network_pass
from live_bytes import LiveBytes, counted
from released_random import Release, lens, walk

from sanawm_gym.worldmodel.camera_condition import CameraCondition, clip_camera, stream_camera
from sanawm_gym.worldmodel.cross_attention import TextContext
from sanawm_gym.worldmodel.model import SanaWM
from sanawm_gym.worldmodel.official.load import empty_network
from sanawm_gym.worldmodel.official.speed import trim

META = torch.device("meta")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one call of the network.

    Attributes:
        flops: Operations.
        live: Most bytes that its own tensors hold at once.
        moved: Bytes that its operations read and write.
    """

    flops: int
    live: int
    moved: int


def chunk_flops(release: Release, frames: int) -> int:
    """Operations of a chunk: all denoising passes and the clean one."""
    one = network_pass(
        release.network, release.tokens, frames, window=release.window, text=release.text
    )
    return (len(release.sampling.timesteps) + 1) * sum(one.values())


def clip_flops(release: Release) -> int:
    """Operations of a whole clip, chunk by chunk."""
    config = release.network
    first, later = (chunk_flops(release, n) for n in (config.first_chunk_size, config.chunk_size))
    return first + (release.chunks - 1) * later


def meta_network(release: Release, dtype: torch.dtype) -> Any:
    """The network without memory."""
    return empty_network(release.network).to(dtype).eval().requires_grad_(False)


def meta_camera(release: Release, frames: int, begins: bool) -> CameraCondition:
    """Camera of a clip that begins, or of later frames."""
    config = release.network
    geometry: dict[str, Any] = {
        "image_size": release.picture, "grid": release.grid, "config": config,
    }  # fmt: skip
    pictures = config.temporal_stride * (frames - begins) + begins
    build = clip_camera if begins else stream_camera
    return build(walk(pictures), lens(release), **geometry).to(META)


def meta_text(network: SanaWM, release: Release) -> TextContext:
    """A prompt of full length."""
    config = network.config
    shape = (1, config.num_attention_heads, release.text, config.head_dim)
    empty = [torch.empty(shape, dtype=network.dtype, device=META) for _ in network.blocks]
    mask = torch.ones(1, 1, 1, release.text, dtype=torch.bool, device=META)
    return TextContext(keys=tuple(empty), values=tuple(empty), mask=mask)


def stream_cost(network: SanaWM, release: Release, *, clean: bool, first: bool = False) -> Cost:
    """One pass of a chunk: a denoising one, or the clean one that makes the new memory.

    Args:
        network: On the meta device.
        release: Sizes.
        clean: Which of the two.
        first: The first chunk, which is longer and masks its empty windows.
    """
    config = network.config
    frames = config.first_chunk_size if first else config.chunk_size
    state = network.initial_state(1, *release.grid, device=META)
    text, camera = meta_text(network, release), meta_camera(release, frames, begins=first)
    x = torch.empty(1, config.in_channels, frames, *release.grid, device=META)
    level = torch.empty(1, frames, device=META)
    known = replace(state, filled=not first)
    with counted() as (live, _):
        if clean:
            memory = network.remember(x, text, camera, known)[1].map(trim)
            del memory
        else:
            network.step(x, level, text, camera, known, update_state=False)
    work = network_pass(config, release.tokens, frames, window=release.window, text=release.text)
    return _cost(sum(work.values()), live)


def clip_cost(network: SanaWM, release: Release, frames: int) -> Cost:
    """One bidirectional pass over a clip of so many latent frames."""
    x = torch.empty(1, network.config.in_channels, frames, *release.grid, device=META)
    level = torch.empty(1, frames, device=META)
    text, camera = meta_text(network, release), meta_camera(release, frames, begins=True)
    with counted() as (live, _):
        network(x, level, text, camera)
    work = network_pass(network.config, release.tokens, frames, text=release.text)
    return _cost(sum(work.values()), live)


def _cost(flops: int, live: LiveBytes) -> Cost:
    return Cost(flops=flops, live=live.peak, moved=live.moved)


def size_of(tensors: Any) -> int:
    """Bytes of tensors."""
    return sum(t.numel() * t.element_size() for t in tensors)


def estimate(
    release: Release, dtype: torch.dtype, clip: int, rates: tuple[float, float]
) -> tuple[list[list[str]], dict[str, Any]]:
    """Rows and figures of the table.

    Args:
        release: Sizes.
        dtype: Of weights and activations.
        clip: Latent frames of the bidirectional clip.
        rates: Operations and bytes a second of the card in mind.
    """
    network = meta_network(release, dtype)
    weights = size_of([*network.parameters(), *network.buffers()])
    memory = network.initial_state(1, *release.grid, device=META).num_bytes
    text = size_of(meta_text(network, release).tensors().values())
    noisy = stream_cost(network, release, clean=False)
    clean = stream_cost(network, release, clean=True)
    first = stream_cost(network, release, clean=True, first=True)
    whole = clip_cost(network, release, clip)
    steps = len(release.sampling.timesteps)
    chunk = Cost(
        flops=steps * noisy.flops + clean.flops,
        live=max(noisy.live, clean.live),
        moved=steps * noisy.moved + clean.moved,
    )
    minute = Cost(
        flops=clip_flops(release), live=max(chunk.live, first.live),
        moved=release.chunks * chunk.moved,
    )  # fmt: skip
    resting = weights + text + memory
    figures: dict[str, Any] = {
        "weights_bytes": weights,
        "memory_bytes": memory,
        "prompt_bytes": text,
        "stream_peak_bytes": resting + minute.live,
        # A recording reads from a memory and a prompt of its own, and leaves its results in place
        # while they are copied out.
        "recorded_peak_bytes": resting + minute.live + 2 * memory + text,
        "clip_peak_bytes": weights + text + whole.live,
    }
    rows = []
    for name, cost, held in (
        ("denoising pass", noisy, resting + noisy.live),
        ("clean pass", clean, resting + clean.live),
        (f"chunk ({steps} + 1 passes)", chunk, resting + chunk.live),
        (f"clip of {release.chunks} chunks", minute, figures["stream_peak_bytes"]),
        (f"bidirectional pass, {clip} latents", whole, figures["clip_peak_bytes"]),
    ):
        floors = cost.flops / rates[0], cost.moved / rates[1]
        figures[name] = {**vars(cost), "peak_bytes": held, "floors_s": floors}
        cells = (cost.flops / 1e12, cost.moved / 1e9, *(1e3 * t for t in floors), held / 1e9)
        rows.append([name, *(f"{cell:.4g}" for cell in cells)])
    return rows, figures
