"""The car against closed forms, its limits, and its rows against each other."""

import math

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.spatial.transform import Rotation

from sanawm_gym.camera import CameraRig, camera_poses
from sanawm_gym.geometry import planar_pose, relative_poses
from sanawm_gym.vehicle import (
    ACCELERATION,
    SPEED,
    STEER,
    YAW,
    KinematicBicycle,
    VehicleConfig,
    X,
    Y,
    vehicle_state,
)

PROMPT = VehicleConfig(steer_tau=0.0, accel_tau=0.0)


def drive(
    config: VehicleConfig, start: np.ndarray, action: tuple[float, float], frames: int
) -> np.ndarray:
    return KinematicBicycle(config).advance(start[None], np.array([action]), frames)[0]


def camera_path(states: np.ndarray) -> np.ndarray:
    return relative_poses(
        camera_poses(planar_pose(states[:, X], states[:, Y], states[:, YAW]), CameraRig())
    )


def test_twenty_metres_a_second_for_two_seconds_is_forty_metres() -> None:
    states = drive(VehicleConfig(), vehicle_state(speed=20.0), (0.0, 0.0), 32)
    assert len(states) == 32
    assert states[-1, X] == pytest.approx(40.0, abs=1e-9)
    assert states[-1, Y] == 0.0 and states[-1, SPEED] == 20.0


def test_a_straight_line_is_a_pure_forward_motion_of_the_camera() -> None:
    path = camera_path(drive(VehicleConfig(), vehicle_state(yaw=0.0, speed=8.0), (0.0, 1.0), 16))
    assert (path[:, :3, :3] == np.eye(3)).all()
    assert (path[:, :2, 3] == 0.0).all()
    assert (np.diff(path[:, 2, 3]) > 0).all()


def test_left_steer_turns_left_and_yaws_the_camera_negatively_about_its_y() -> None:
    states = drive(VehicleConfig(), vehicle_state(speed=5.0), (1.0, 0.0), 16)
    assert states[-1, YAW] > 0 and states[-1, Y] > 0 and states[-1, STEER] > 0
    path = camera_path(states)
    about_y = Rotation.from_matrix(path[-1, :3, :3]).as_rotvec()
    assert about_y[1] < -0.3 and abs(about_y[0]) < 1e-12 and abs(about_y[2]) < 1e-12
    assert path[-1, 0, 3] < 0  # OpenCV x is right


@pytest.mark.parametrize("steer", [1.0, 0.3, -0.7])
def test_held_wheels_draw_the_arc_of_the_closed_form(steer: float) -> None:
    speed, angle = 4.0, 0.5 * steer
    states = drive(PROMPT, vehicle_state(speed=speed, steer=angle), (steer, 0.0), 48)
    radius = PROMPT.wheelbase / math.tan(angle)
    turn = speed * np.arange(1, 49) / 16 / radius
    np.testing.assert_allclose(states[:, YAW], turn, atol=1e-12)
    np.testing.assert_allclose(states[:, X], radius * np.sin(turn), atol=1e-11)
    np.testing.assert_allclose(states[:, Y], radius * (1 - np.cos(turn)), atol=1e-11)


def test_the_actuators_lag_like_their_first_order_equation() -> None:
    config = VehicleConfig()
    states = drive(config, vehicle_state(speed=10.0), (0.1, 0.5), 16)
    time = np.arange(1, 17) / 16
    command = 0.5 * config.max_accel
    np.testing.assert_allclose(states[:, STEER], 0.05 * (1 - np.exp(-time / 0.05)), rtol=1e-12)
    np.testing.assert_allclose(
        states[:, ACCELERATION], command * (1 - np.exp(-time / 0.2)), rtol=1e-12
    )
    np.testing.assert_allclose(
        states[:, SPEED], 10 + command * (time - 0.2 * (1 - np.exp(-time / 0.2))), rtol=1e-12
    )


def test_the_path_agrees_with_a_fine_general_ode_solver() -> None:
    config = VehicleConfig()
    bicycle = KinematicBicycle(config)
    action = np.array([[-0.4, -0.3]])
    steer_command, accel_command = (float(value[0]) for value in bicycle.commands(action))

    def derivative(_: float, s: np.ndarray) -> list[float]:
        return [
            s[SPEED] * math.cos(s[YAW]),
            s[SPEED] * math.sin(s[YAW]),
            s[SPEED] * math.tan(s[STEER]) / config.wheelbase,
            s[ACCELERATION],
            (steer_command - s[STEER]) / config.steer_tau,
            (accel_command - s[ACCELERATION]) / config.accel_tau,
        ]

    start = vehicle_state(yaw=0.4, speed=7.0, steer=0.2, acceleration=1.0)
    exact = solve_ivp(derivative, (0.0, 2.0), start, rtol=1e-11, atol=1e-12).y[:, -1]
    np.testing.assert_allclose(bicycle.advance(start[None], action, 32)[0, -1], exact, atol=2e-3)


def test_halving_the_substep_changes_a_minute_of_driving_by_millimetres() -> None:
    rng = np.random.default_rng(0)
    ends = []
    actions = rng.uniform(-0.2, 0.2, (240, 2))
    for substep in (0.01, 0.0025):
        state = vehicle_state(speed=6.0)[None]
        bicycle = KinematicBicycle(VehicleConfig(substep=substep))
        for action in actions:
            state = bicycle.advance(state, action[None], 4)[:, -1]
        ends.append(state[0])
    assert np.hypot(*(ends[0] - ends[1])[:2]) < 0.05


def test_braking_stops_the_car_without_reversing_it() -> None:
    states = drive(VehicleConfig(), vehicle_state(speed=6.0), (0.0, -1.0), 48)
    assert (states[:, SPEED] >= 0).all() and states[-1, SPEED] == 0.0
    assert states[-1, ACCELERATION] == 0.0
    assert (np.diff(states[:, X]) >= 0).all() and states[-1, X] == states[-2, X]


def test_a_stopped_car_drives_off_again() -> None:
    stopped = drive(VehicleConfig(), vehicle_state(speed=2.0), (0.0, -1.0), 32)[-1]
    assert drive(VehicleConfig(), stopped, (0.0, 1.0), 32)[-1, SPEED] > 4.0


def test_the_speed_never_passes_the_cars_limit() -> None:
    states = drive(VehicleConfig(), vehicle_state(speed=24.0), (0.0, 1.0), 32)
    assert states[:, SPEED].max() == 25.0 and states[-1, ACCELERATION] == 0.0


@pytest.mark.parametrize("speed", [3.0, 10.0, 20.0, 25.0])
def test_the_wheels_give_way_to_the_tyre_limit(speed: float) -> None:
    config = VehicleConfig()
    states = drive(config, vehicle_state(speed=speed), (1.0, 0.0), 16)
    bicycle = KinematicBicycle(config)
    lateral = bicycle.lateral_acceleration(states)
    assert (lateral <= 5.5 + 1e-9).all()
    free = speed**2 * math.tan(config.max_steer) / config.wheelbase
    assert lateral[-1] == pytest.approx(min(5.5, free), rel=1e-6)
    assert (bicycle.yaw_rate(states) <= config.max_yaw_rate + 1e-9).all()


def test_actions_beyond_the_pedals_are_clipped() -> None:
    start = vehicle_state(speed=5.0)
    wild = drive(VehicleConfig(), start, (9.0, 9.0), 8)
    assert (wild == drive(VehicleConfig(), start, (1.0, 1.0), 8)).all()


@pytest.mark.parametrize("num_rows", [1, 2, 3, 5, 8, 17])
def test_a_row_does_not_depend_on_its_neighbours_bit_for_bit(num_rows: int) -> None:
    rng = np.random.default_rng(num_rows)
    low, high = [-50, -50, -3, 0, -0.5, -6], [50, 50, 3, 25, 0.5, 3.5]
    states = rng.uniform(low, high, (num_rows, 6))
    actions = rng.uniform(-1, 1, (num_rows, 2)).astype(np.float32)
    bicycle = KinematicBicycle()
    batched = bicycle.advance(states, actions, 8)
    for row in range(num_rows):
        alone = bicycle.advance(states[row : row + 1], actions[row : row + 1], 8)
        assert alone.tobytes() == batched[row : row + 1].tobytes()


def test_two_steps_of_four_frames_are_one_step_of_eight() -> None:
    bicycle, start = KinematicBicycle(), vehicle_state(speed=9.0)[None]
    action = np.array([[0.3, 0.6]], dtype=np.float32)
    whole = bicycle.advance(start, action, 8)
    first = bicycle.advance(start, action, 4)
    assert (
        np.concatenate([first, bicycle.advance(first[:, -1], action, 4)], axis=1) == whole
    ).all()


@pytest.mark.parametrize(
    "bad", [{"wheelbase": 0.0}, {"max_steer": 28.0}, {"substep": float("nan")}, {"steer_tau": -0.1}]
)
def test_impossible_cars_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"vehicle: got .*, expected .*; "):
        VehicleConfig(**bad)
