"""The road's geometry against closed forms."""

import numpy as np
import pytest

from sanawm_gym.envs.reference.road import MAX_HEADING, STEP, Road
from sanawm_gym.envs.reference.scene import SceneConfig, sample_scene


def test_projection_undoes_placement(road: Road) -> None:
    rng = np.random.default_rng(0)
    s, d = rng.uniform(5, road.length - 5, 500), rng.uniform(-8, 8, 500)
    x, y, _ = road.point(s, d)
    back_s, back_d = road.project(x, y)
    np.testing.assert_allclose(back_s, s, atol=0.02)
    np.testing.assert_allclose(back_d, d, atol=0.005)


def test_one_point_is_located_as_many_are_projected(road: Road) -> None:
    s, d = road.project(np.array([80.0]), np.array([3.0]))
    assert road.locate(80.0, 3.0) == (float(s[0]), float(d[0]))


@pytest.mark.parametrize("seed", range(12))
def test_bends_keep_to_the_smallest_radius_and_the_road_never_turns_back(seed: int) -> None:
    scene = sample_scene(seed)
    road = Road(scene, 1500.0)
    assert np.abs(road.curvature).max() <= 1.0 / scene.min_radius + 1e-9
    assert np.abs(road.heading).max() < MAX_HEADING + 0.05
    assert (np.diff(road.x) > 0).all()  # so it cannot meet itself


@pytest.mark.parametrize("seed", range(6))
def test_heading_is_the_integral_of_curvature_and_position_that_of_heading(seed: int) -> None:
    road = Road(sample_scene(seed), 600.0)
    steps = np.hypot(np.diff(road.x), np.diff(road.y))
    np.testing.assert_allclose(steps, STEP, rtol=1e-9)
    turn = np.diff(road.heading) / STEP
    np.testing.assert_allclose(turn, (road.curvature[1:] + road.curvature[:-1]) / 2, atol=1e-12)


def test_a_road_of_all_kinds_has_bends_both_ways() -> None:
    bends = np.concatenate([Road(sample_scene(seed), 800.0).curvature for seed in range(20)])
    assert bends.max() > 1 / 40 and bends.min() < -1 / 40 and (bends == 0).mean() > 0.1


def test_lanes_lie_side_by_side_with_traffic_on_the_right() -> None:
    scene = SceneConfig(seed=0, num_forward=2, num_oncoming=1, lane_width=3.0)
    road = Road(scene, 300.0)
    assert [lane.center for lane in road.forward_lanes] == [-1.5, -4.5]
    assert [lane.center for lane in road.oncoming_lanes] == [1.5]
    assert (road.base_left, road.base_right) == (3.0, -6.0)


@pytest.mark.parametrize(("merge", "first", "last"), [("joins", 0.0, 3.0), ("ends", 3.0, 0.0)])
def test_an_extra_lane_opens_or_closes_on_the_right(merge: str, first: float, last: float) -> None:
    scene = SceneConfig(
        seed=1, kind="highway", num_forward=2, num_oncoming=0, lane_width=3.0, merge=merge
    )
    road = Road(scene, 600.0)
    widths = road.extra_width(np.array([0.0, 590.0]))
    np.testing.assert_allclose(widths, [first, last])
    np.testing.assert_allclose(road.right_edge(np.array([0.0, 590.0])), -3.0 - widths)


def test_distance_beyond_the_edge_is_negative_on_the_road(road: Road) -> None:
    s = np.array([100.0, 100.0, 100.0])
    x, y, _ = road.point(s, np.array([0.0, road.base_left + 2.0, road.base_right - 1.0]))
    np.testing.assert_allclose(road.outside(x, y), [-3.5, 2.0, 1.0], atol=0.01)
