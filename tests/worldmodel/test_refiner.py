"""The refiner by itself: windows, memory as a value, the one-shot mode, adapters."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sanawm_gym.worldmodel.refiner import Refiner, RefinerConfig, RefinerState
from sanawm_gym.worldmodel.refiner.block import RefinerBlock
from sanawm_gym.worldmodel.refiner.lora import LoraAdapter, LoraConfig, load_adapter
from sanawm_gym.worldmodel.refiner.rotary import Rotation, rotate, rotation
from sanawm_gym.worldmodel.refiner.sampler import begin_at, refine_at_once, refine_block
from sanawm_gym.worldmodel.refiner.weights import config_from_ltx2

TINY = RefinerConfig(
    in_channels=4,
    num_layers=2,
    num_attention_heads=2,
    head_dim=16,
    caption_channels=6,
    strides=(4, 8, 8),
    block_frames=1,
    window_frames=4,
    positions="window",
    gated_attention=True,
    rope_theta=100.0,
    max_position=(2.0, 72.0, 128.0),
)
GRID = (2, 3)


def make(config: RefinerConfig = TINY, seed: int = 0) -> Refiner:
    refiner = Refiner(config)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in refiner.named_parameters():
        size = 0.5 / math.sqrt(parameter[0].numel()) if parameter.ndim > 1 else 0.1
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = noise * size + (1.0 if "norm" in name else 0.0)
    return refiner.eval().requires_grad_(False)


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def text(b: int) -> tuple[Tensor, Tensor]:
    mask = torch.ones(b, 5, dtype=torch.bool)
    mask[0, 3:] = False
    return noise(b, 5, 6, seed=9), mask


def run(
    refiner: Refiner, state: RefinerState, steps: int, seed: int
) -> tuple[Tensor, RefinerState]:
    """Refine as many blocks of random drafts, row by row the same for the same seed."""
    parts = []
    for step in range(steps):
        draft, eps = noise(2, state.batch_size, 4, 1, *GRID, seed=seed + step)
        refined, state = refine_block(refiner, draft, eps, state)
        parts.append(refined)
    return torch.cat(parts, dim=2), state


def test_rows_of_different_ages_stand_in_one_batch() -> None:
    refiner = make()
    features, mask = text(2)
    sink = noise(2, 4, 1, *GRID, seed=3)
    old = refiner.start(sink[:1], features[:1], mask[:1])
    _, old = run(refiner, old, 5, seed=20)
    young = refiner.start(sink[1:], features[1:], mask[1:])
    _, young = run(refiner, young, 1, seed=30)
    draft, eps = noise(2, 2, 4, 1, *GRID, seed=5)
    together, after = refine_block(refiner, draft, eps, RefinerState.concat([old, young]))
    for row, state in enumerate((old, young)):
        one = slice(row, row + 1)
        alone, state_after = refine_block(refiner, draft[one], eps[one], state)
        torch.testing.assert_close(together[one], alone, atol=1e-5, rtol=1e-5)
        for name, tensor in after.select([row]).tensors().items():
            other = state_after.tensors()[name]
            torch.testing.assert_close(tensor, other, atol=1e-5, rtol=1e-5, msg=name)


def test_a_state_is_never_changed_and_a_saved_one_goes_on_byte_for_byte(tmp_path: Path) -> None:
    refiner = make()
    _, state = run(refiner, refiner.start(noise(1, 4, 1, *GRID), *text(1)), 2, seed=20)
    state.save(tmp_path / "state.safetensors")
    first, _ = run(refiner, state, 3, seed=40)
    again, _ = run(refiner, RefinerState.load(tmp_path / "state.safetensors"), 3, seed=40)
    assert torch.equal(first, again)
    fork, _ = run(refiner, state.select([0]), 3, seed=40)
    assert torch.equal(first, fork)


def test_the_state_stops_growing_when_the_window_is_full() -> None:
    refiner = make()
    start = refiner.start(noise(1, 4, 1, *GRID), *text(1))
    _, state = run(refiner, start, 6, seed=20)
    assert {k: t.shape for k, t in state.tensors().items()} == {
        k: t.shape for k, t in start.tensors().items()
    }
    assert int(state.num_history) == TINY.history_frames
    assert int(state.next_frame) == 7


@pytest.mark.parametrize("positions", ["window", "absolute"])
def test_only_absolute_positions_notice_how_old_a_stream_is(positions: str) -> None:
    refiner = make(dataclasses.replace(TINY, positions=positions))
    _, state = run(refiner, refiner.start(noise(1, 4, 1, *GRID), *text(1)), 4, seed=20)
    week = dataclasses.replace(state, next_frame=state.next_frame + 2_400_000)
    now, later = (run(refiner, one, 1, seed=50)[0] for one in (state, week))
    assert torch.equal(now, later) == (positions == "window")


def test_what_left_the_window_is_forgotten_and_the_sink_is_not() -> None:
    refiner = make(dataclasses.replace(TINY, num_layers=1))
    features, mask = text(1)
    firsts = [noise(1, 4, 1, *GRID, seed=seed) for seed in (3, 4)]
    past = [noise(2, 1, 4, 1, *GRID, seed=seed) for seed in (60, 61)]
    streams = {}
    for sink in (0, 1):
        for old in (0, 1):
            state = refiner.start(firsts[sink], features, mask)
            _, state = refine_block(refiner, past[old][0], past[old][1], state)
            # One layer: what the old frame did to younger ones does not outlive it.
            for frame in range(TINY.history_frames):
                clean = noise(1, 4, 1, *GRID, seed=70 + frame)
                state = refiner.remember(clean, refiner.window(state, GRID, 1))
            streams[sink, old] = run(refiner, state, 1, seed=80)[0]
    torch.testing.assert_close(streams[0, 0], streams[0, 1], atol=0, rtol=0)
    assert (streams[0, 0] - streams[1, 0]).abs().max() > 1e-3


def masked_pass(refiner: Refiner, x: Tensor, sigma: Tensor, state: RefinerState) -> Tensor:
    """Velocity of all frames in one pass: sink queries see the sink, the others everything."""
    b, _, t, *grid = x.shape
    cells, sink = math.prod(grid), refiner.config.sink_frames
    at = torch.arange(t).expand(b, t)
    turn = rotation(at, (grid[0], grid[1]), refiner.config)
    see = torch.ones(t * cells, t * cells, dtype=torch.bool)
    see[: sink * cells, sink * cells :] = False
    hidden = refiner.proj_in(x.flatten(2).transpose(1, 2))
    modulation, embedded = refiner.time_embed(sigma)
    for layer, block in enumerate(refiner.blocks):
        hidden = masked_block(block, hidden, modulation, turn, see, state, layer)
    table = (refiner.scale_shift_table + embedded[:, :, None]).repeat_interleave(cells, dim=1)
    shift, scale = table.unbind(dim=2)
    out = refiner.proj_out(F.layer_norm(hidden, hidden.shape[-1:], eps=1e-6) * (1 + scale) + shift)
    return out.transpose(1, 2).reshape(x.shape)


def masked_block(
    block: RefinerBlock,
    x: Tensor,
    modulation: Tensor,
    turn: Rotation,
    see: Tensor,
    state: RefinerState,
    layer: int,
) -> Tensor:
    cells = x.shape[1] // modulation.shape[1]
    table = (block.scale_shift_table + modulation).repeat_interleave(cells, dim=1)
    shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = table.unbind(dim=2)

    def norm(y: Tensor) -> Tensor:
        return y * torch.rsqrt(y.square().mean(-1, keepdim=True) + block.eps)

    a = norm(x) * (1 + scale_1) + shift_1
    attention = block.attn1
    key, value = attention.keys_and_values(a)
    query = attention.norm_q(attention.to_q(a)).unflatten(-1, key.shape[1::2]).transpose(1, 2)
    scores = rotate(query, turn) @ rotate(key, turn).transpose(-1, -2) / key.shape[-1] ** 0.5
    seen = scores.masked_fill(~see, -math.inf).softmax(dim=-1) @ value
    gate = 2 * torch.sigmoid(attention.to_gate_logits(a)).transpose(1, 2)[..., None]
    x = x + gate_1 * attention.to_out[0]((seen * gate).transpose(1, 2).flatten(2))
    mask = state.text_mask[:, None, None]
    x = x + block.attn2(norm(x), state.text_keys[:, layer], state.text_values[:, layer], mask=mask)
    return x + gate_2 * block.ff(norm(x) * (1 + scale_2) + shift_2)


def test_one_shot_equals_a_masked_pass_over_the_whole_clip() -> None:
    refiner = make()
    draft, eps = noise(2, 2, 4, 5, *GRID)
    features, mask = text(2)
    got = refine_at_once(refiner, draft, eps, features, mask)
    state = refiner.start(draft[:, :, :1], features, mask)
    levels = [*refiner.config.sigmas, 0.0]
    x = torch.cat([draft[:, :, :1], begin_at(draft, eps, levels[0])[:, :, 1:]], dim=2)
    for now, following in itertools.pairwise(levels):
        sigma = torch.full((2, 5), now)
        sigma[:, 0] = 0.0
        v = masked_pass(refiner, x, sigma, state)
        x = torch.cat([x[:, :, :1], (x + (following - now) * v)[:, :, 1:]], dim=2)
    torch.testing.assert_close(got, x, atol=1e-5, rtol=1e-4)


def test_computing_blocks_again_gives_the_same_gradients() -> None:
    found = []
    for again in (False, True):
        refiner = make().requires_grad_(True)
        refiner.gradient_checkpointing = again
        state = refiner.start(noise(1, 4, 1, *GRID), *text(1))
        state = refiner.remember(noise(1, 4, 1, *GRID, seed=2), refiner.window(state, GRID, 1))
        window = refiner.window(state, GRID, 1)
        v = refiner(noise(1, 4, 1, *GRID, seed=3), torch.full((1, 1), 0.4), window)
        v.square().mean().backward()
        found.append([p.grad for p in refiner.parameters()])
    assert sum(g is not None and bool(g.abs().max() > 0) for g in found[0]) > 50
    for one, other in zip(*found, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other)


def test_an_adapter_begins_silent_and_merges_into_equal_weights(tmp_path: Path) -> None:
    refiner, merged = make(), make()
    adapter = LoraAdapter(refiner, LoraConfig(rank=3, alpha=6.0))
    # Eight maps of attention and two of the feed-forward layer in each of two blocks.
    assert len(adapter.names) == 20
    state = refiner.start(noise(1, 4, 1, *GRID), *text(1))
    plain, _ = run(refiner, state, 1, seed=5)
    handles = adapter.attach(refiner)
    assert torch.equal(run(refiner, state, 1, seed=5)[0], plain)
    for pair in adapter.parameters():
        pair.data = noise(*pair.shape, seed=pair.numel()) * 0.2
    start = refiner.start(noise(1, 4, 1, *GRID), *text(1))
    adapted, _ = run(refiner, start, 1, seed=5)
    assert (adapted - plain).abs().max() > 1e-2
    adapter.save(tmp_path)
    load_adapter(tmp_path, merged).merge(merged)
    start = merged.start(noise(1, 4, 1, *GRID), *text(1))
    torch.testing.assert_close(run(merged, start, 1, seed=5)[0], adapted, atol=1e-5, rtol=1e-5)
    for handle in handles:
        handle.remove()
    assert torch.equal(run(refiner, state, 1, seed=5)[0], plain)


def test_an_adapter_of_another_refiner_is_refused(tmp_path: Path) -> None:
    LoraAdapter(make(), LoraConfig(rank=2, alpha=2.0)).save(tmp_path)
    wider = make(dataclasses.replace(TINY, num_attention_heads=4))
    with pytest.raises(ValueError, match="of another refiner"):
        load_adapter(tmp_path, wider)
    deeper = make(dataclasses.replace(TINY, num_layers=3))
    with pytest.raises(ValueError, match="other layers"):
        load_adapter(tmp_path, deeper)


def test_a_network_of_another_form_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"rope_type='interleaved'.*cross_attn_mod=True"):
        config_from_ltx2({"cross_attn_mod": True})


@pytest.mark.parametrize("sigmas", [(), (0.5, 0.9), (1.2, 0.3), (0.5, 0.0), (0.5, 0.5)])
def test_noise_levels_that_do_not_fall_are_refused(sigmas: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="sigmas"):
        dataclasses.replace(TINY, sigmas=sigmas)
