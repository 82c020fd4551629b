"""The drivers of a comparison: who takes part, and what a handicap does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sanawm_gym.agents.scripted import ConstantPolicy, RandomPolicy
from sanawm_gym.validate.panel import PANEL, Impaired, entrants

THREE = {"camera": np.zeros((3, 4, 4, 3), np.uint8), "ego": np.zeros((3, 4), np.float32)}


def test_late_hands_do_what_was_decided_before_and_a_pulling_wheel_stays_off_centre() -> None:
    prompt, late = RandomPolicy(), Impaired(RandomPolicy(), late=2, pull=0.1)
    for driver in (prompt, late):
        driver.reset([4, 5, 6])
    wanted = [prompt.act(THREE) for _ in range(4)]
    done = [late.act(THREE) for _ in range(4)]
    np.testing.assert_allclose(done[0], np.tile([0.1, 0.0], (3, 1)), atol=1e-6)
    np.testing.assert_allclose(done[1], done[0])
    for early, now in zip(wanted, done[2:], strict=False):
        np.testing.assert_allclose(now, np.clip(early + np.array([0.1, 0.0]), -1, 1), atol=1e-6)


def test_trembling_follows_the_seed_of_a_row_alone() -> None:
    together, alone = (Impaired(ConstantPolicy(), tremble=0.3) for _ in range(2))
    together.reset([1, 2, 3])
    alone.reset([2])
    one = {name: values[:1] for name, values in THREE.items()}
    for _ in range(3):
        np.testing.assert_array_equal(together.act(THREE)[1], alone.act(one)[0])


def test_nine_drivers_and_more_take_part_of_which_some_need_heads_or_eyes() -> None:
    assert len(PANEL) >= 9 and len({one.name for one in PANEL}) == len(PANEL)
    able, unable = entrants((), has_heads=False, same_size=True)
    assert {"constant", "random", "cloned"} <= {one.name for one in able}
    assert "idm" in unable and len(able) + len(unable) == len(PANEL)
    able, _ = entrants((), has_heads=False, same_size=False)
    assert [one.name for one in able] == ["constant", "random"]
    assert entrants(("constant",), has_heads=True, same_size=True) == (list(PANEL), [])


def test_drivers_that_cannot_drive_here_are_refused(tmp_path: Path) -> None:
    able = {"has_heads": True, "same_size": True}
    with pytest.raises(ValueError, match="nobody"):
        entrants(("nobody",), **able)
    with pytest.raises(ValueError, match="no heads"):
        entrants(("idm",), has_heads=False, same_size=True)
    with pytest.raises(ValueError, match="another size"):
        entrants(("cloned",), has_heads=True, same_size=False)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no weights")
    with pytest.raises(ValueError, match="broken"):
        entrants((str(broken),), **able)
