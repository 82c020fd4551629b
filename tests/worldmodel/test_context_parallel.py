"""A clip spread over the ranks of a process group: as if one rank held it, gradients included.

Four processes over gloo stand for groups of two, three and four ranks. Every process makes the
whole clip from one seed, runs its slice, and writes what it got; the tests put the slices together.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor

from sanawm_gym.worldmodel import SanaWM, SanaWMConfig
from sanawm_gym.worldmodel.camera_condition import clip_camera
from sanawm_gym.worldmodel.chunks import Mode
from sanawm_gym.worldmodel.ops.frame_gdn import ClipSlices, exchange_halo, frame_gdn
from sanawm_gym.worldmodel.short_conv import ShortConv
from tests.conftest import random_weights

NUM_PROCESSES = 4
GROUPS = ((0, 1), (1, 2, 3), (0, 1, 2, 3))
SLICES = {2: [(4, 3), (1, 6)], 3: [(2, 4, 1), (1, 1, 5)], 4: [(2, 2, 2, 1), (1, 3, 2, 1)]}
"""Frames of each rank by the number of ranks."""
CHUNKS: dict[str, tuple[int, ...]] = {
    "bidirectional": (7,),
    "chunk_causal": (4, 3),
    "short_chunks": (1, 2, 1, 3),
    "causal": (1,) * 7,
}
MODES: tuple[Mode, ...] = ("bidirectional", "chunk_causal")
NETWORK_CASES = [(sizes, mode) for sizes in ((4, 3), (1, 1, 5), (2, 2, 2, 1)) for mode in MODES]
TINY = SanaWMConfig(
    in_channels=4,
    num_layers=4,
    hidden_size=32,
    num_attention_heads=2,
    caption_channels=7,
    text_length=5,
    temporal_stride=2,
    plucker_channels=12,
    softmax_every_n=2,
    camera_unit_m=10.0,
)
"""Both kinds of block twice, chunks of 4 and then 3 frames."""
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
Outcome = dict[str, list[Tensor]]


def cases() -> list[tuple[str, tuple[int, ...], str, torch.dtype]]:
    return [
        (f"{'-'.join(map(str, sizes))}-{name}-{str(dtype)[-2:]}", sizes, name, dtype)
        for group in SLICES.values()
        for sizes in group
        for name in CHUNKS
        for dtype in TOLERANCE
    ]


def clip(dtype: torch.dtype) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
    """q, k, v, beta, decay of seven frames; the state before them; weights of output and end."""
    generator = torch.Generator().manual_seed(0)
    shape = (2, 7, 5, 3)

    def noise(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64).to(dtype)

    def share(*size: int) -> Tensor:
        return torch.rand(*size, generator=generator, dtype=torch.float64).to(dtype)

    # Keys of a size at which much of the memory survives the slices before.
    tensors = [noise(*shape, 8), noise(*shape, 8) / 40**0.5, noise(*shape, 6)]
    tensors += [share(*shape), 0.5 + 0.5 * share(2, 7, 3)]
    return tensors, noise(2, 3, 8, 6), noise(*shape, 6), noise(2, 3, 8, 6)


def run_scan(
    chunks: tuple[int, ...], dtype: torch.dtype, slices: ClipSlices | None
) -> list[Tensor]:
    """Output, states before, the last state, gradients of all five inputs and of the first state.

    The loss reads every frame, and the state after the clip on the rank that has it.
    """
    tensors, initial, weight, end_weight = clip(dtype)
    ends = True
    if slices is not None:
        tensors = [slices.cut(x).clone() for x in tensors]
        weight = slices.cut(weight)
        ends = slices.rank == len(slices.sizes) - 1
    inputs = [x.requires_grad_() for x in (*tensors, initial)]
    result = frame_gdn(*inputs[:5], chunks=chunks, initial=initial, slices=slices)
    loss = (result.output * weight).sum() + 0.1 * result.before.square().sum()
    loss = loss + ends * (result.final * end_weight).sum()
    gradients = torch.autograd.grad(loss, inputs)
    return [result.output.detach(), result.before.detach(), result.final.detach(), *gradients]


def run_convolution(chunks: tuple[int, ...], slices: ClipSlices | None) -> list[Tensor]:
    """Output of the short convolution, and gradients of its input and of its weight."""
    convolution = ShortConv(6, 4).double()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 7, 5, 6, generator=generator, dtype=torch.float64)
    weight = torch.randn(2, 7, 5, 6, generator=generator, dtype=torch.float64)
    taps = torch.randn(6, 1, 4, generator=generator, dtype=torch.float64)
    convolution.weight.data = taps
    if slices is None:
        x.requires_grad_()
        y = convolution(x, chunks, None)
    else:
        x, weight = slices.cut(x).clone().requires_grad_(), slices.cut(weight)
        wide = exchange_halo(x, slices, before=3, after=3)
        y = convolution(wide[:, 3:], slices.local_chunks(chunks, after=3), wide[:, :3])
        y = y[:, : x.shape[1]]
    gradients = torch.autograd.grad((y * weight).sum(), [x, convolution.weight])
    return [y.detach(), *gradients]


def run_network(mode: Mode, slices: ClipSlices | None) -> list[Tensor]:
    """Velocity of a whole network, gradients of the clip and of all weights in a row."""
    torch.manual_seed(2)
    network = SanaWM(TINY)
    random_weights(network)
    network.double()
    network.gradient_checkpointing = mode == "chunk_causal"  # computes, and asks the others, again
    generator = torch.Generator().manual_seed(3)

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    x, weight, level = noise(2, 4, 7, 3, 4), noise(2, 4, 7, 3, 4), 500 + 100 * noise(2, 7)
    poses = torch.eye(4, dtype=torch.float64).repeat(2, 13, 1, 1)
    poses[..., :3, 3] = noise(2, 13, 3).cumsum(dim=1)
    camera = clip_camera(
        poses, torch.tensor([[50.0, 40.0, 32.0, 11.0]] * 2),
        image_size=(24, 32), grid=(3, 4), config=TINY,
    )  # fmt: skip
    text = network.encode_text(noise(2, 5, 7), torch.ones(2, 5, dtype=torch.bool))
    if slices is not None:
        start, stop = slices.span(slices.rank)
        x, weight, level = x[:, :, start:stop], weight[:, :, start:stop], level[:, start:stop]
        camera = camera.frames(start, stop)
    x = x.clone().requires_grad_()
    v = network(x, level, text, camera, mode=mode, slices=slices)
    names, weights = zip(*network.named_parameters(), strict=True)
    found = torch.autograd.grad((v * weight).sum(), [x, *weights], allow_unused=True)
    given = [
        torch.zeros_like(w) if g is None else g for w, g in zip(weights, found[1:], strict=True)
    ]
    assert sum(bool(g.any()) for g in given) > 0.8 * len(names)
    return [v.detach(), found[0], torch.cat([g.flatten() for g in given])]


def work(rank: int, folder: str) -> None:
    """One process: every case whose group it belongs to."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=NUM_PROCESSES,
        timeout=timedelta(seconds=300),
    )
    groups = {len(ranks): dist.new_group(list(ranks)) for ranks in GROUPS}
    found: Outcome = {}
    for name, sizes, mode, dtype in cases():
        group = groups[len(sizes)]
        if rank in GROUPS[len(sizes) - 2]:
            slices = ClipSlices(sizes, group)
            found[name] = run_scan(CHUNKS[mode], dtype, slices)
            if dtype == torch.float64:
                found[f"{name}-convolution"] = run_convolution(CHUNKS[mode], slices)
    for sizes, mode in NETWORK_CASES:
        if rank in GROUPS[len(sizes) - 2]:
            slices = ClipSlices(sizes, groups[len(sizes)])
            found[f"network-{sizes}-{mode}"] = run_network(mode, slices)
    torch.save(found, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    """What every process found, by case."""
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(work, (str(folder),), nprocs=NUM_PROCESSES)
    return [torch.load(folder / f"{rank}.pt") for rank in range(NUM_PROCESSES)]


def parts(outcomes: list[Outcome], name: str, num_ranks: int) -> list[list[Tensor]]:
    """What the ranks of a case found, in the order of time."""
    return [outcomes[rank][name] for rank in GROUPS[num_ranks - 2]]


def assert_equal(got: Tensor, expected: Tensor, tolerance: float) -> None:
    assert got.shape == expected.shape
    assert float((got - expected).abs().max()) < tolerance * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize(("name", "sizes", "mode", "dtype"), cases())
def test_a_sliced_scan_equals_the_scan_of_the_whole_clip(
    outcomes: list[Outcome], name: str, sizes: tuple[int, ...], mode: str, dtype: torch.dtype
) -> None:
    expected = run_scan(CHUNKS[mode], dtype, None)
    ranks = parts(outcomes, name, len(sizes))
    for index in (0, 1, 3, 4, 5, 6, 7):  # per frame: output, states, gradients
        assert_equal(torch.cat([x[index] for x in ranks], 1), expected[index], TOLERANCE[dtype])
    assert_equal(ranks[-1][2], expected[2], TOLERANCE[dtype])
    assert_equal(sum(x[8] for x in ranks), expected[8], TOLERANCE[dtype])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "sizes", "mode"), [case[:3] for case in cases() if case[3] == torch.float64]
)
def test_a_halo_makes_a_sliced_convolution_equal_to_the_whole_one(
    outcomes: list[Outcome], name: str, sizes: tuple[int, ...], mode: str
) -> None:
    expected = run_convolution(CHUNKS[mode], None)
    ranks = parts(outcomes, f"{name}-convolution", len(sizes))
    for index in (0, 1):
        assert_equal(torch.cat([x[index] for x in ranks], 1), expected[index], 1e-10)
    assert_equal(sum(x[2] for x in ranks), expected[2], 1e-10)  # type: ignore[arg-type]


@pytest.mark.parametrize(("sizes", "mode"), NETWORK_CASES)
def test_a_network_over_slices_equals_the_network_over_the_whole_clip(
    outcomes: list[Outcome], sizes: tuple[int, ...], mode: Mode
) -> None:
    expected = run_network(mode, None)
    ranks = parts(outcomes, f"network-{sizes}-{mode}", len(sizes))
    for index in (0, 1):
        assert_equal(torch.cat([x[index] for x in ranks], 2), expected[index], 1e-9)
    assert_equal(sum(x[2] for x in ranks), expected[2], 1e-9)  # type: ignore[arg-type]


@pytest.fixture
def one_rank(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/one", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_one_rank_holds_the_whole_clip(one_rank: None) -> None:
    expected = run_scan((4, 3), torch.float64, None)
    for got, wanted in zip(
        run_scan((4, 3), torch.float64, ClipSlices.even(7)), expected, strict=True
    ):
        assert_equal(got, wanted, 1e-12)


def test_slices_that_do_not_fit_are_refused(one_rank: None) -> None:
    with pytest.raises(ValueError, match="expected 1 sizes"):
        ClipSlices((3, 4))
    tensors, *_ = clip(torch.float32)
    with pytest.raises(ValueError, match="got 7 frames on rank 0, expected 6"):
        frame_gdn(*tensors, slices=ClipSlices((6,)))
