"""Pictures: where things appear, what depth says, and that only the arguments matter."""

import dataclasses

import numpy as np
import pytest

from sanawm_gym.camera import CameraRig, Intrinsics
from sanawm_gym.envs.reference.cars import BODIES, Car
from sanawm_gym.envs.reference.renderer import Renderer
from sanawm_gym.envs.reference.road import Road
from sanawm_gym.envs.reference.scene import SceneConfig, sample_scene

LENS = Intrinsics.from_fov(70.0, 128, 72)
RIG = CameraRig(x=1.5, z=1.4)


@pytest.fixture
def renderer(scene: SceneConfig, road: Road) -> Renderer:
    """A camera of 70 degrees, level, 1.4 m high."""
    return Renderer(scene, road, LENS, RIG)


def place(road: Road, s: float, d: float = 0.0) -> tuple[float, float, float]:
    """x, y and heading on the road."""
    x, y, heading = road.point(s, d)
    return float(x), float(y), float(heading)


@pytest.mark.parametrize("seed", [1, 6, 8])
def test_a_picture_does_not_depend_on_the_pictures_before(seed: int) -> None:
    scene = sample_scene(seed)
    road = Road(scene, 400.0)
    travelled, fresh = Renderer(scene, road), Renderer(scene, road)
    for s in np.arange(60.0, 160.0, 4.0):
        last = travelled.render(*place(road, s))
    np.testing.assert_array_equal(last, fresh.render(*place(road, s)))


def test_the_pose_is_that_of_the_mount(renderer: Renderer) -> None:
    pose = renderer.pose(10.0, 4.0, np.pi / 2)
    np.testing.assert_allclose(pose[:3, 3], [10.0, 5.5, 1.4], atol=1e-12)
    np.testing.assert_allclose(pose[:3, 2], [0.0, 1.0, 0.0], atol=1e-12)  # looks north


def test_the_depth_of_the_ground_is_that_of_the_ray(renderer: Renderer, road: Road) -> None:
    depth = renderer.depth(*place(road, 100.0))
    rows = np.arange(44, 72)
    expected = 1.4 * LENS.fy / (rows + 0.5 - LENS.cy)
    middle = depth[rows, 64]
    np.testing.assert_allclose(middle, expected, rtol=1e-5)
    assert np.isinf(depth[:20, 64]).all()


def test_a_car_stands_in_the_depth_where_its_rear_is(scene: SceneConfig) -> None:
    straight = dataclasses.replace(scene, straightness=1.0)
    road = Road(straight, 400.0)
    renderer = Renderer(straight, road, LENS, RIG)
    x, y, heading = place(road, 100.0)
    car = Car(x + 1.5 + 20.0 + BODIES[3].length / 2, y, heading, 3, 0, False)
    depth = renderer.depth(x, y, heading, [car])
    np.testing.assert_allclose(depth[34:38, 63:65], 20.0, atol=0.05)
    assert np.abs(depth[36, 30] - 20.0) > 1.0


def test_a_car_covers_the_pixels_that_its_box_projects_to(scene: SceneConfig) -> None:
    straight = dataclasses.replace(scene, straightness=1.0)
    road = Road(straight, 400.0)
    renderer = Renderer(straight, road, LENS, RIG)
    x, y, heading = place(road, 100.0)
    truck = BODIES[3]
    car = Car(x + 1.5 + 15.0 + truck.length / 2, y + 3.0, heading, 3, 0, False)
    empty = renderer.render(x, y, heading).astype(int)
    changed = np.abs(renderer.render(x, y, heading, [car]).astype(int) - empty).max(axis=-1) > 8
    columns = np.flatnonzero(changed[:36].any(axis=0))  # above its shadow
    # rear face 15 m away, its left corner 3 + 1.2 m to the left
    left = LENS.cx - LENS.fx * (3.0 + truck.width / 2) / 15.0
    assert abs(columns.min() - left) < 1.5
    rows = np.flatnonzero(changed[:, int(left) + 4])
    assert abs(rows.min() - (LENS.cy - LENS.fy * (truck.height - 1.4) / 15.0)) < 1.5


def test_the_edge_line_lies_where_the_ray_says(scene: SceneConfig) -> None:
    flat = dataclasses.replace(scene, straightness=1.0, asphalt_noise=0.0, wear=0.0)
    road = Road(flat, 400.0)
    renderer = Renderer(flat, road, LENS, RIG)
    picture = renderer.render(*place(road, 100.0)).astype(int).sum(axis=-1)
    row = 52
    depth = 1.4 * LENS.fy / (row + 0.5 - LENS.cy)
    edge = LENS.cx + LENS.fx * -(road.base_right + 0.19) / depth
    seen = 80 + int(np.argmax(picture[row, 80:125]))
    assert abs(seen + 0.5 - edge) < 1.5


def test_turning_left_moves_the_far_picture_right_by_the_angle(scene: SceneConfig) -> None:
    cloudy = dataclasses.replace(scene, weather="cloudy")
    road = Road(cloudy, 400.0)
    renderer = Renderer(cloudy, road, LENS, RIG)
    x, y, heading = place(road, 100.0)
    before = renderer.render(x, y, heading)[4:26].astype(float)
    pixels = 6
    after = renderer.render(x, y, heading + np.arctan(pixels / LENS.fx))[4:26].astype(float)
    cost = [
        np.abs(after[:, 40 + shift : 88 + shift] - before[:, 40:88]).mean()
        for shift in range(-12, 13)
    ]
    assert np.argmin(cost) - 12 == pixels


def test_night_is_darker_than_noon_and_fog_greyer(scene: SceneConfig, road: Road) -> None:
    looks = {}
    for name, change in (
        ("noon", {}), ("night", {"hour": "night"}), ("fog", {"weather": "fog", "visibility": 60.0})
    ):  # fmt: skip
        changed = dataclasses.replace(scene, **change)
        looks[name] = Renderer(changed, road, LENS, RIG).render(*place(road, 100.0)).astype(float)
    assert looks["night"].mean() < 0.5 * looks["noon"].mean()
    spread = {name: np.ptp(look, axis=-1).mean() for name, look in looks.items()}
    assert spread["fog"] < 0.5 * spread["noon"]


def test_another_picture_size_and_lens_can_be_asked_for(scene: SceneConfig, road: Road) -> None:
    lens = Intrinsics.from_fov(90.0, 64, 64)
    renderer = Renderer(scene, road, lens, RIG)
    assert renderer.render(*place(road, 100.0)).shape == (64, 64, 3)
    assert renderer.depth(*place(road, 100.0)).shape == (64, 64)
