"""The frame-wise delta rule beside diffusers' `torch_chunk_sana_gdn`, on this machine, in one run.

Both compute the whole bidirectional linear attention of a recurrent block: inclusive forward scan,
exclusive backward scan, numerator with rotated keys, denominator with plain ones. The two take
turns call by call, so that a busy machine slows both alike; the table gives the best of the turns.
On a CUDA device this repository's Triton kernels take turns too, and get rows of their own.

    python benchmarks/gdn_op.py --out gdn_op.md
    python benchmarks/gdn_op.py --out gdn_op.md --device cuda
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from diffusers.models.transformers.transformer_sana_wm import SanaWMBidirectionalGDNAttention
from torch import Tensor

from sanawm_gym.worldmodel.ops.frame_gdn import frame_gdn, use_kernels
from sanawm_gym.worldmodel.rope import rotary_tables, rotate

EPS = 1e-8


@dataclass(frozen=True, kw_only=True)
class Size:
    """Shape of one case.

    Attributes:
        heads: Heads.
        dim: Channels of a head.
        grid: Rows and columns of tokens per frame.
        frames: Latent frames.
    """

    heads: int
    dim: int
    grid: tuple[int, int]
    frames: int

    @property
    def tokens(self) -> int:
        """Tokens of a frame."""
        return self.grid[0] * self.grid[1]

    def __str__(self) -> str:
        return f"H {self.heads}, D {self.dim}, S {self.tokens}, T {self.frames}"


SIZES = (
    Size(heads=4, dim=32, grid=(9, 16), frames=16),
    Size(heads=8, dim=64, grid=(11, 20), frames=21),
    Size(heads=20, dim=112, grid=(12, 20), frames=11),
)


def sizes_on(device: str) -> tuple[Size, ...]:
    """The sizes of the table; a GPU is also given the tokens of the released 704 x 1280 video."""
    if device == "cpu":
        return SIZES
    return (*SIZES, Size(heads=20, dim=112, grid=(22, 40), frames=11))


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Options.

    Attributes:
        out: Markdown file for the table, or none.
        turns: Timed calls of each side per case.
        threads: Threads of torch.
        device: "cpu" or a CUDA device.
    """

    out: Path | None = None
    turns: int = 10
    threads: int = 1
    device: str = "cpu"


def make_inputs(size: Size, device: str) -> list[Tensor]:
    """q, k (unscaled), v as (b, t s, h, d); beta (b, h, t, s); decay (b, h, t)."""
    generator = torch.Generator().manual_seed(0)
    tokens = (1, size.frames * size.tokens, size.heads, size.dim)
    q, k = (torch.randn(tokens, generator=generator).relu() for _ in range(2))
    v = torch.randn(tokens, generator=generator)
    beta = torch.rand(1, size.heads, size.frames, size.tokens, generator=generator)
    decay = torch.rand(1, size.heads, size.frames, generator=generator)
    return [x.to(device).requires_grad_() for x in (q, k, v, beta, decay)]


def ours(size: Size, device: str, kernels: str) -> Callable[..., Tensor]:
    """This repository's op, in torch or on Triton kernels."""
    index = torch.arange(size.frames, device=device)[None]
    table = rotary_tables(index, size.grid, size.dim, torch.float32).main
    scale = (size.dim * size.tokens) ** -0.5

    def run(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, decay: Tensor) -> Tensor:
        q, k, v = (x.unflatten(1, (size.frames, size.tokens)) for x in (q, k, v))
        k = k * scale
        strength, kept = beta.permute(0, 2, 3, 1), decay.transpose(1, 2)
        with use_kernels(kernels):
            numerator = frame_gdn(rotate(q, table), rotate(k, table), v, strength, kept).output
            mass = frame_gdn(q, k, torch.ones_like(v[..., :1]), strength, kept).output
        return (numerator / (mass + EPS)).flatten(3).flatten(1, 2)

    return run


def theirs(size: Size, device: str) -> Callable[..., Tensor]:
    """The form of diffusers, two calls of torch_chunk_sana_gdn inside."""
    index = torch.arange(size.frames, device=device)[None]
    table = rotary_tables(index, size.grid, size.dim, torch.float32).main
    rotary = table.reshape(1, 1, size.frames * size.tokens, -1)
    attention = SanaWMBidirectionalGDNAttention(eps=EPS)

    def run(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, decay: Tensor) -> Tensor:
        gate = torch.zeros(1, device=device)
        out: Tensor = attention(q, k, v, beta, decay, gate, size.frames, rotary_emb=rotary)
        return out

    return run


def seconds(
    work: Callable[..., object], run: Callable[..., Tensor], inputs: list[Tensor], device: str
) -> float:
    start = time.perf_counter()
    work(run, inputs)
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def forward(run: Callable[..., Tensor], inputs: list[Tensor]) -> Tensor:
    with torch.no_grad():
        return run(*inputs)


def forward_backward(run: Callable[..., Tensor], inputs: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(run(*inputs).square().sum(), inputs)


def main(options: Benchmark) -> None:
    torch.set_num_threads(options.threads)
    forms = ("torch",) if options.device == "cpu" else ("torch", "triton")
    lines = [
        f"Frame GDN, torch {torch.__version__}, {platform.machine()}, {options.device}, "
        f"{options.threads} thread(s), float32, best of {options.turns} turns.",
        "",
        "| size | pass | diffusers ms | here ms | ratio |",
        "|---|---|---|---|---|",
    ]
    for size in sizes_on(options.device):
        inputs = make_inputs(size, options.device)
        sides = (theirs(size, options.device), *(ours(size, options.device, x) for x in forms))
        expected, *found = (forward(run, inputs) for run in sides)
        for got in found:
            error = float((got - expected).abs().max() / expected.abs().max())
            assert error < 1e-4, f"the two disagree by {error}"
        for name, work in (("forward", forward), ("forward + backward", forward_backward)):
            times: list[list[float]] = [[] for _ in sides]
            for turn in range(options.turns + 1):
                for times_of, run in zip(times, sides, strict=True):
                    spent = seconds(work, run, inputs, options.device)
                    if turn:  # the first turn warms up
                        times_of.append(spent)
            slow, *fast = (1e3 * min(values) for values in times)
            for form, here in zip(forms, fast, strict=True):
                kind = name if form == "torch" else f"{name}, Triton"
                lines.append(f"| {size} | {kind} | {slow:.2f} | {here:.2f} | {slow / here:.2f} |")
                print(lines[-1], flush=True)
    text = "\n".join(lines) + "\n"
    if options.out is not None:
        options.out.write_text(text)
        print(f"wrote {options.out}")
    else:
        print(text)


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
