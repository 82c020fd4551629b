"""Noise levels of the chunk-causal mixture."""

from collections import Counter

import pytest
import torch

from sanawm_gym.train_wm.noise_levels import chunk_sigmas, rising_levels


def test_rising_levels_are_uniform_over_all_rising_sequences() -> None:
    generator = torch.Generator().manual_seed(0)
    counts = Counter(tuple(rising_levels(2, 3, generator).tolist()) for _ in range(6000))
    assert set(counts) == {(1, 1), (1, 2), (1, 3), (2, 2), (2, 3), (3, 3)}
    for count in counts.values():
        assert count == pytest.approx(1000, rel=0.15)


def test_a_chunks_frames_share_their_level_and_levels_never_fall() -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(200):
        sigma = chunk_sigmas([4, 3, 3], shift=8.0, generator=generator)
        assert sigma.shape == (10,)
        for start, stop in ((0, 4), (4, 7), (7, 10)):
            assert len(set(sigma[start:stop].tolist())) == 1
        levels = sigma[[0, 4, 7]]
        assert bool((levels.diff() >= -1e-6).all())
        assert 0 < float(levels[-1]) <= 1
