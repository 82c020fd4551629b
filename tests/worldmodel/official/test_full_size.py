"""What `benchmarks/full_size.py` says by arithmetic, against torch's own counts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def counted_flops(work: Any) -> int:
    from live_bytes import counted

    with counted() as (_, fused), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() + fused.flops


@pytest.mark.parametrize(("width", "heads"), [(64, 2), (144, 2)])
def test_operations_of_the_network_are_those_that_torch_counts(width: int, heads: int) -> None:
    """For heads that meet their rays in one dense product, and for larger ones, as released."""
    from arithmetic import network_pass
    from full_size_estimate import META, meta_camera, meta_network, meta_text
    from released_random import TINY

    config = dataclasses.replace(TINY.network, hidden_size=width, num_attention_heads=heads)
    release = dataclasses.replace(TINY, network=config)
    network = meta_network(release, torch.float32)
    state = network.initial_state(1, *release.grid, device=META)
    text = meta_text(network, release)
    for frames, window in ((3, release.window), (4, 0)):
        camera = meta_camera(release, frames, begins=window == 0)
        x = torch.empty(1, config.in_channels, frames, *release.grid, device=META)
        level = torch.empty(1, frames, device=META)

        def work(x: Any = x, level: Any = level, camera: Any = camera, w: int = window) -> None:
            if w:
                network.step(x, level, text, camera, state, update_state=False)
            else:
                network(x, level, text, camera)

        parts = network_pass(config, release.tokens, frames, window=window, text=release.text)
        assert sum(parts.values()) == counted_flops(work)
        assert min(parts.values()) > 0


def test_operations_of_the_refiner_are_those_that_torch_counts() -> None:
    from arithmetic import refiner_pass
    from released_random import TINY

    from sanawm_gym.worldmodel.refiner import Refiner

    config, (rows, columns) = TINY.refiner, TINY.grid
    with torch.device("meta"):
        refiner = Refiner(config)
        clip = torch.empty(1, config.in_channels, 3, rows, columns)
        features = torch.empty(1, TINY.refiner_text, config.caption_channels)
        mask = torch.ones(1, TINY.refiner_text, dtype=torch.bool)
        level = torch.empty(1, 3)
    with torch.no_grad():
        state = refiner.start(clip[:, :, :1], features, mask)
        state = refiner.remember(clip, refiner.window(state, TINY.grid, 3))
        window = refiner.window(state, TINY.grid, 3)
    sizes: dict[str, Any] = {"past": config.window_frames, "text": TINY.refiner_text}
    noisy, clean = (
        refiner_pass(config, TINY.tokens, 3, keys_only=last, **sizes) for last in (False, True)
    )
    assert noisy == counted_flops(lambda: refiner(clip, level, window))
    assert clean == counted_flops(lambda: refiner.capture(clip, window))


def test_live_bytes_are_those_of_tensors_that_exist() -> None:
    from live_bytes import counted

    weight = torch.ones(50, 10, device="meta")
    with counted() as (live, fused):
        one = torch.zeros(10, 10, device="meta")
        assert (live.live, live.moved) == (400, 400)
        two = one @ weight.t()
        assert live.live == 400 + 2000
        part = two[:, :5]
        del two
        # A view keeps what it is a view of; a view of a weight is no new memory.
        assert live.live == 2400
        del part, one
        assert (live.live, live.peak) == (0, 2400)
        assert live.moved == 400 + (400 + 2000 + 2000)
        query = torch.empty(1, 2, 7, 4, device="meta")
        torch.nn.functional.scaled_dot_product_attention(query, query, query)
        assert fused.flops == 2 * 2 * 2 * 7 * 7 * 4
        assert live.peak == 2400
