"""How a world draws its chunks: what is chosen, and that it stays the same drawing."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sanawm_gym.worldmodel.official.graphs import GraphRecorder, StaticStep
from sanawm_gym.worldmodel.official.leaves import tensors_of
from sanawm_gym.worldmodel.official.offload import BlockOffload, bring
from sanawm_gym.worldmodel.official.overlap import draw_ahead
from sanawm_gym.worldmodel.official.parts import OfficialConfig
from sanawm_gym.worldmodel.official.sampling import BIDIRECTIONAL, STREAMING
from sanawm_gym.worldmodel.official.speed import choose_drawing, draw_trimmed, trim

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
RECORDED = OfficialConfig(cuda_graphs=True)


def tiny_world(device: str) -> Any:
    """A refined stream of random weights that has not begun, as the benchmark makes it."""
    from full_size_runs import World
    from released_random import TINY, random_parts

    place = torch.device(device)
    return World.of(TINY, random_parts(TINY, place, torch.float32, refiner=True, decoder=True))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return tiny_world("cpu")


def test_windows_are_said_to_be_full_once_they_are(world: Any) -> None:
    said = []

    def watched(*arguments: Any) -> Any:
        said.append(arguments[5].filled)
        return draw_trimmed(*arguments)

    stream, state = replace(world.stream, draw=watched), world.begun
    for part in world.path(3).split(stream.frames_per_chunk, dim=1):
        _, state = stream.next_chunk(state, part)
    # Sink and one chunk: after the first chunk the sliding part still shows what the sink shows.
    assert said == [False, False, True]


def test_what_cannot_be_had_is_said(world: Any) -> None:
    parts = world.stream.parts
    assert choose_drawing(parts, STREAMING, OfficialConfig()) is draw_trimmed
    with pytest.warns(UserWarning, match="cuda_graphs on device 'cpu', which has none"):
        assert choose_drawing(parts, STREAMING, RECORDED) is draw_trimmed
    elsewhere = replace(parts, device=torch.device("cuda"))
    with pytest.warns(UserWarning, match="sampled bidirectional: only the chunks"):
        assert choose_drawing(elsewhere, BIDIRECTIONAL, RECORDED) is draw_trimmed
    assert isinstance(choose_drawing(elsewhere, STREAMING, RECORDED), StaticStep)
    waiting = replace(parts, offload=BlockOffload.of_network(parts.network, "cpu"))
    with pytest.raises(ValueError, match="cuda_graphs with offload='blocks'"):
        choose_drawing(waiting, STREAMING, RECORDED)


def test_values_are_brought_whole(world: Any) -> None:
    state = world.begun
    there = bring((state.network, [state.first]), torch.device("meta"))
    assert all(t.device.type == "meta" for t in tensors_of(there))
    assert there[0].config is state.network.config and there[1][0].shape == state.first.shape
    # A part of a larger tensor is copied out of it, a whole one is left as it is.
    whole = torch.arange(12.0).view(3, 4)
    assert trim(whole) is whole and torch.equal(trim(whole[1]), whole[1])
    assert trim(whole[1]).untyped_storage().nbytes() == 16


@pytest.mark.slow
def test_compiled_blocks_draw_the_same() -> None:
    """In a process of its own: checks of shapes at every call would be compiled too."""
    script = """
import torch
from dataclasses import replace
from full_size_runs import World
from released_random import TINY, random_parts
from sanawm_gym.worldmodel.official.speed import compile_blocks

parts = random_parts(TINY, torch.device("cpu"), torch.float32, refiner=False, decoder=False)
world = World.of(TINY, parts)
names = list(parts.network.state_dict())
with torch.no_grad():
    plain, _ = world.stream.next_chunk(world.begun, world.path(1))
    compile_blocks(parts.network, backend="aot_eager")
    compiled, _ = world.stream.next_chunk(world.begun, world.path(1))
torch.testing.assert_close(compiled, plain, atol=1e-5, rtol=1e-5)
assert list(parts.network.state_dict()) == names
from torch._dynamo.utils import counters
assert counters["stats"]["unique_graphs"] == 4 and not counters["graph_break"], counters
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=BENCHMARKS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def in_turn(world: Any, chunks: int) -> list[Tensor]:
    """Pictures of a stream drawn, refined and decoded one chunk after the other."""
    stream, state, found = world.stream, world.begun, []
    for part in world.path(chunks).split(stream.frames_per_chunk, dim=1):
        latents, after = stream.next_chunk(state, part)
        shown, memory = stream.refine(latents, (state.seeds, state.steps), state.refined)
        pixels, decoder = stream.show(shown, state.decoder)
        state = replace(after, refined=memory, decoder=decoder)
        found.append(pixels.cpu())
    return found


@pytest.mark.gpu
@pytest.mark.parametrize("recorded", [False, True])
@torch.no_grad()
def test_lanes_on_a_gpu_show_what_steps_show(
    recorded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.use_deterministic_algorithms(False)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    world = tiny_world("cuda")
    expected = in_turn(world, 6)
    draw: Any = draw_trimmed
    if recorded:
        draw = StaticStep(draw_trimmed, GraphRecorder(torch.device("cuda")), plain_calls=0)
    stream, path = replace(world.stream, draw=draw), world.path(6)
    for _ in range(3):
        got = []
        for pixels, state in draw_ahead(stream, world.begun, path):
            got.append(pixels.cpu())
            del pixels, state
            # Takes whatever memory was given back too early, and spoils it.
            torch.full((1 << 22,), float("nan"), device="cuda")
        for one, other in zip(got, expected, strict=True):
            torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
    # Whoever stops early goes on in his own stream with what was handed out.
    ahead = draw_ahead(stream, world.begun, path)
    _, state = next(ahead)
    ahead.close()
    size = stream.frames_per_chunk
    after, _ = stream.next_chunk(state, path[:, size : 2 * size])
    shown, _ = stream.refine(after, (state.seeds, state.steps), state.refined)
    pixels, _ = stream.show(shown, state.decoder)
    torch.testing.assert_close(pixels.cpu(), expected[1], atol=1e-3, rtol=1e-3)


@pytest.mark.gpu
def test_the_released_size_stays_within_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    torch.use_deterministic_algorithms(False)
    from full_size import AIM_BYTES
    from full_size_runs import Bench, World, time_chunks
    from released_random import FULL, random_parts

    device = torch.device("cuda")
    parts = random_parts(FULL, device, torch.bfloat16, refiner=False, decoder=False)
    bench = Bench(device=device, repeats=2, warm_up=3)
    draw = StaticStep(draw_trimmed, GraphRecorder(device), plain_calls=1)
    for timing in time_chunks(bench, World.of(FULL, parts), draw).values():
        assert timing.peak is not None and timing.peak[0] < AIM_BYTES
