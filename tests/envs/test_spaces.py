"""Actions and observations without any world."""

import numpy as np
import pytest
from gymnasium import spaces

from sanawm_gym.envs.spaces import (
    action_space,
    check_actions,
    ego_observation,
    ego_space,
    observation_space,
)
from sanawm_gym.vehicle import KinematicBicycle, VehicleConfig, vehicle_state


def test_the_action_is_two_normalised_numbers() -> None:
    assert action_space() == spaces.Box(-1.0, 1.0, (2,), np.float32)


@pytest.mark.parametrize(
    ("mode", "keys"), [("dict", {"camera", "ego"}), ("latent", {"latent", "ego"})]
)
def test_the_mode_chooses_what_is_observed(mode: str, keys: set[str]) -> None:
    space = observation_space(
        mode, height=40, width=64, vehicle=VehicleConfig(), latent_shape=(4, 5, 8)
    )
    assert isinstance(space, spaces.Dict) and set(space) == keys


def test_the_camera_alone_is_a_plain_picture() -> None:
    space = observation_space("camera", height=40, width=64, vehicle=VehicleConfig())
    assert space == spaces.Box(0, 255, (40, 64, 3), np.uint8)


@pytest.mark.parametrize("mode", ["pixels", "latent"])
def test_a_mode_that_is_not_there_is_refused(mode: str) -> None:
    with pytest.raises(ValueError, match=r"observation: got .*, expected one of \['dict', 'cam"):
        observation_space(mode, height=40, width=64, vehicle=VehicleConfig())


def test_every_bound_of_the_ego_vector_is_finite_and_kept_by_wild_driving() -> None:
    bicycle = KinematicBicycle()
    space = ego_space(bicycle.config)
    assert np.isfinite(space.low).all() and np.isfinite(space.high).all()
    rng = np.random.default_rng(0)
    states = np.stack([vehicle_state(speed=speed) for speed in (0.0, 5.6, 12.0, 25.0)])
    reached = []
    for _ in range(200):
        actions = rng.choice([-1.0, 1.0], (4, 2)) * rng.uniform(0.9, 1.0, (4, 2))
        states = bicycle.advance(states, actions, 4)[:, -1]
        ego = ego_observation(states, bicycle)
        assert ego.dtype == np.float32 and all(row in space for row in ego)
        reached.append(ego)
    assert np.abs(np.concatenate(reached)[:, 3]).max() > 0.8 * space.high[3]


def test_actions_beyond_the_box_are_clipped() -> None:
    assert check_actions([[3, -9]], 1).tolist() == [[1.0, -1.0]]


@pytest.mark.parametrize(
    ("actions", "num_rows"),
    [
        ([0.0, 0.0], 1),
        ([[0.0, 0.0]], None),
        ([[0.0, 0.0]], 2),
        ([0.0, 0.0, 0.0], None),
        ([np.nan, 0.0], None),
        ([0.0, -np.inf], None),
        ("left", None),
        (None, None),
        ([[0.0], [0.0, 1.0]], 2),
    ],
)
def test_actions_that_are_none_are_refused(actions: object, num_rows: int | None) -> None:
    with pytest.raises(ValueError, match=r"^action: got .*, expected .*; "):
        check_actions(actions, num_rows)  # type: ignore[arg-type]
