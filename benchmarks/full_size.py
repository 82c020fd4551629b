"""Speed and memory of the released SANA-WM at its full size, 704x1280, with random weights.

Timed are a chunk of the stream (four denoising passes and the clean one, first and later ones), the
whole minute, one bidirectional pass beside diffusers' transformer on the same inputs, the refiner,
the decoder, and the minute with all of them overlapping. A matrix product of the same run gives
what the card can do at best. Aims, on one H200 in bfloat16: the minute denoised in 10 s, at most
12 GB for stage 1.

    python benchmarks/full_size.py --out results/full_size.json
    python benchmarks/full_size.py --estimate          # arithmetic, on any machine
    python benchmarks/full_size.py --size tiny --device cpu
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
import tyro
from full_size_estimate import chunk_flops, clip_flops, estimate, meta_network, size_of
from full_size_runs import (
    Bench,
    Timing,
    World,
    matrix_ceiling,
    time_chunks,
    time_clip_pass,
    time_decoder,
    time_minute,
    time_pipeline,
    time_refiner,
)
from released_random import RELEASES, Release, random_parts
from report import Report

from sanawm_gym.worldmodel.official.graphs import GraphRecorder, PlainRecorder, StaticStep
from sanawm_gym.worldmodel.official.speed import PLAIN_CALLS, compile_blocks, draw_trimmed, lay_out

AIM_SECONDS, AIM_BYTES = 10.0, 12e9
"""Of the minute's denoising, and of stage 1."""
MATRIX_SIDE = {"full": 8192, "tiny": 128}

Part = Literal["chunks", "minute", "bidirectional", "diffusers", "refiner", "decoder", "pipeline"]
Way = Literal["plain", "recorded", "compiled"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to time.

    Attributes:
        size: The released size, or a tiny one of the same parts.
        device: Torch device.
        dtype: Of weights and activations; auto is bfloat16 on a GPU and for estimates, and float32
            on a CPU, where diffusers' transformer takes no other.
        parts: What is run.
        ways: How chunks are drawn: kernel by kernel, as a CUDA graph (elsewhere than on a GPU the
            same code without a graph), and with compiled blocks and a graph; always in this order,
            since compiling stays.
        clip: Latent frames of the bidirectional clip, >= 2; 21 are the released default of 161
            pictures, 121 a minute.
        repeats: Timed calls of every part, >= 2.
        warm_up: Calls before them, >= 0; recordings are made in them.
        threads: CPU threads of torch, >= 1.
        estimate: Time nothing; count operations and bytes instead, which needs neither GPU nor
            memory.
        rates: Operations and bytes a second for the floors of an estimate; those of an H200's
            data sheet in dense bfloat16.
        force: Run at full size without a GPU nevertheless.
        out: JSON file to write.
    """

    size: Literal["full", "tiny"] = "full"
    device: str = "cuda"
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    parts: tuple[Part, ...] = (
        "chunks", "minute", "bidirectional", "diffusers", "refiner", "decoder", "pipeline"
    )  # fmt: skip
    ways: tuple[Way, ...] = ("plain", "recorded")
    clip: int = 21
    repeats: int = 10
    warm_up: int = PLAIN_CALLS + 1
    threads: int = 1
    estimate: bool = False
    rates: tuple[float, float] = (989e12, 4.8e12)
    force: bool = False
    out: Path | None = None


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    if options.clip < 2 or options.repeats < 2:
        raise ValueError(
            f"got clip={options.clip}, repeats={options.repeats}; expected at least 2 of each"
        )
    if options.dtype == "auto":
        plain = options.device == "cpu" and not options.estimate
        options = dataclasses.replace(options, dtype="float32" if plain else "bfloat16")
    release, dtype = RELEASES[options.size], getattr(torch, options.dtype)
    if options.estimate:
        publish_estimate(options, release, dtype)
        return
    check_device(options, release, dtype)
    device = torch.device(options.device)
    bench = Bench(device=device, repeats=options.repeats, warm_up=options.warm_up)
    torch.manual_seed(0)
    ceiling = matrix_ceiling(bench, dtype, MATRIX_SIDE[options.size])
    found: dict[str, Timing] = {}
    for name, timing in run(options, bench, release, dtype):
        found[name] = timing
        print(f"{name}: {1e3 * timing.median:.1f} ms", flush=True)
    best = ceiling.rate or 1.0
    notes = [
        f"Matrix product of {MATRIX_SIDE[options.size]} squared in {options.dtype}: "
        f"{best / 1e12:.1f} TFLOP/s.",
        *aims(options, found),
    ]
    figures: dict[str, Any] = {"ceiling_flops": best}
    for name, timing in found.items():
        figures[name] = {**dataclasses.asdict(timing), "rate": timing.rate}
    Report(
        title=f"The released SANA-WM, {options.size} size, random weights, {options.dtype}",
        columns=[
            "part",
            "ms, median / p95",
            "TFLOP/s",
            "of the product",
            "GB, allocated / reserved",
        ],
        rows=[_row(name, timing, best) for name, timing in found.items()],
        figures=figures,
        notes=notes,
    ).publish(options, options.out)


def check_device(options: Options, release: Release, dtype: torch.dtype) -> None:
    """Refuse what would take hours, and say how many."""
    gpu = options.device != "cpu"
    if gpu and not torch.cuda.is_available():
        raise ValueError(
            f"got device={options.device!r}, but torch sees no GPU here; take --estimate, which "
            "needs none, or --device cpu --size tiny"
        )
    if gpu or options.size == "tiny" or options.force:
        return
    speed = cpu_speed(dtype)
    weights = size_of(meta_network(release, dtype).parameters())
    one, whole = chunk_flops(release, release.network.chunk_size), clip_flops(release)
    raise ValueError(
        f"got the full size on a CPU: weights of {weights / 1e9:.1f} GB and about as much again, "
        f"and at the {speed / 1e9:.0f} GFLOP/s its matrix products reach about "
        f"{one / speed / 60:.0f} minutes a chunk and {whole / speed / 3600:.0f} hours a clip; take "
        "--size tiny or --estimate, or --force to run it"
    )


def cpu_speed(dtype: torch.dtype, size: int = 512) -> float:
    """Operations a second of this processor's matrix products."""
    one = torch.randn(size, size).to(dtype)
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        one @ one
        times.append(time.perf_counter() - begin)
    return 2 * size**3 / min(times)


def run(
    options: Options, bench: Bench, release: Release, dtype: torch.dtype
) -> Iterator[tuple[str, Timing]]:
    """Every part that is asked for."""
    wanted = set(options.parts)
    stage1 = random_parts(release, bench.device, dtype, refiner=False, decoder=False)
    lay_out(stage1.network)
    world = World.of(release, stage1)
    if "bidirectional" in wanted:
        for who, timing in time_clip_pass(
            bench, world, options.clip, "diffusers" in wanted
        ).items():
            yield f"bidirectional pass of {options.clip}, {who}", timing
    draw: Any = draw_trimmed
    for way in sorted(options.ways, key=get_args(Way).index):
        draw = _drawing(way, world, bench.device)
        if "chunks" in wanted:
            for name, timing in time_chunks(bench, world, draw).items():
                yield f"{name}, {way}", timing
        if "minute" in wanted:
            yield f"minute, {way}", time_minute(bench, world, draw)
    if not wanted & {"refiner", "decoder", "pipeline"}:
        return
    refiner = bool(wanted & {"refiner", "pipeline"})
    more = random_parts(release, bench.device, dtype, refiner=refiner, decoder=True)
    world = World.of(release, dataclasses.replace(more, network=stage1.network))
    if "refiner" in wanted:
        yield "chunk refined", time_refiner(bench, world)
    if "decoder" in wanted:
        yield "chunk decoded", time_decoder(bench, world)
    if "pipeline" in wanted:
        yield "minute drawn, refined, decoded", time_pipeline(bench, world, draw)


def _drawing(way: Way, world: World, device: torch.device) -> Any:
    if way == "plain":
        return draw_trimmed
    if way == "compiled":
        compile_blocks(world.stream.parts.network)
    recorder = GraphRecorder(device) if device.type == "cuda" else PlainRecorder()
    return StaticStep(draw_trimmed, recorder, plain_calls=PLAIN_CALLS)


def aims(options: Options, found: dict[str, Timing]) -> list[str]:
    """Aim and figure side by side."""
    lines = []
    for name, timing in found.items():
        if name.startswith("minute, ") and options.size == "full":
            lines.append(
                f"{name}: aim at most {AIM_SECONDS:g} s, got {timing.median:.2f} s"
                + ("" if timing.peak is None else
                   f"; aim at most {AIM_BYTES / 1e9:g} GB, got {timing.peak[0] / 1e9:.2f} GB "
                   f"({timing.peak[1] / 1e9:.2f} GB reserved)")
            )  # fmt: skip
    pair = [timing for name, timing in found.items() if name.startswith("bidirectional")]
    if len(pair) == 2:
        ratio = pair[1].median / pair[0].median
        lines.append(f"diffusers takes {ratio:.2f} times as long for the same pass.")
    return lines


def _row(name: str, timing: Timing, best: float) -> list[str]:
    p50, p95 = 1e3 * np.quantile(timing.seconds, [0.5, 0.95])
    rate = timing.rate
    return [
        name,
        f"{p50:.1f} / {p95:.1f}" if len(timing.seconds) > 1 else f"{p50:.1f}",
        "-" if rate is None else f"{rate / 1e12:.3g}",
        "-" if rate is None else f"{100 * rate / best:.0f} %",
        "-" if timing.peak is None else " / ".join(f"{part / 1e9:.2f}" for part in timing.peak),
    ]


def publish_estimate(options: Options, release: Release, dtype: torch.dtype) -> None:
    """The table of operations and bytes."""
    rows, figures = estimate(release, dtype, options.clip, options.rates)
    peaks = [figures[key] / 1e9 for key in ("stream_peak_bytes", "recorded_peak_bytes")]
    whole = figures[f"clip of {release.chunks} chunks"]
    seconds = [round(part, 2) for part in whole["floors_s"]]
    Report(
        title=f"Arithmetic of the released stage 1, {options.size} size, {options.dtype}",
        columns=["call", "TFLOP", "GB moved", "ms, operations", "ms, bytes", "peak GB"],
        rows=rows,
        figures=figures,
        notes=[
            "Counted, not measured: operations from sizes, bytes from every operation of the "
            "network on the meta device, times as floors at "
            f"{options.rates[0] / 1e12:g} TFLOP/s and {options.rates[1] / 1e12:g} TB/s.",
            f"Weights {figures['weights_bytes'] / 1e9:.3f} GB, memory of a stream "
            f"{figures['memory_bytes'] / 1e9:.3f} GB, a prompt "
            f"{figures['prompt_bytes'] / 1e9:.3f} GB.",
            f"Aim at most {AIM_BYTES / 1e9:g} GB for stage 1: {peaks[0]:.2f} GB plainly, "
            f"{peaks[1]:.2f} GB recorded, short of what kernels take inside.",
            f"Aim at most {AIM_SECONDS:g} s for the clip: {seconds[0]} s is the floor of its "
            f"operations, {seconds[1]} s that of its bytes where no operation is fused with the "
            "next.",
        ],
    ).publish(dataclasses.replace(options, device="cpu"), options.out)


if __name__ == "__main__":
    main(tyro.cli(Options))
