"""The turn read from pictures, on rendered video whose motion is known."""

import math

import numpy as np
import pytest

from sanawm_gym.camera import CameraRig, Intrinsics
from sanawm_gym.envs.reference.scene import SceneConfig
from sanawm_gym.envs.reference.world import ReferenceWorld, StartState
from sanawm_gym.motion import CarCamera, estimate_yaw
from sanawm_gym.vehicle import YAW

LENS = Intrinsics.from_fov(70.0, 128, 72)


def _clip(
    steer: float, *, speed: float = 8.0, pitch_deg: float = 0.0, hour: str = "noon"
) -> tuple[np.ndarray, float]:
    """Five rendered frames (0.25 s) under a held steering action, and the true turn [rad]."""
    rig = CameraRig(pitch_deg=pitch_deg)
    scene = SceneConfig(seed=5, num_vehicles=0, straightness=1.0, hour=hour)
    world = ReferenceWorld(scene, length=150.0, seed=5, intrinsics=LENS, rig=rig)
    world.start(StartState(speed=speed))
    for _ in range(4):  # the wheels have settled when the clip begins
        world.advance(np.array([steer, 0.0]))
    start, frames = world.state[YAW], [world.render()]
    for _ in range(4):
        world.advance(np.array([steer, 0.0]))
        frames.append(world.render())
    return np.stack(frames), float(world.state[YAW] - start)


def _camera(pitch_deg: float = 0.0) -> CarCamera:
    fx, fy, cx, cy = LENS.as_array().tolist()
    return CarCamera(intrinsics=(fx, fy, cx, cy), pitch=math.radians(pitch_deg))


@pytest.mark.parametrize("steer", [-0.3, -0.1, 0.0, 0.1, 0.3])
def test_the_turn_of_rendered_video_is_read_within_a_tenth(steer: float) -> None:
    frames, true = _clip(steer)
    assert math.copysign(1.0, true) == math.copysign(1.0, steer) or steer == 0.0
    assert estimate_yaw(frames, _camera(), advance=2.0) == pytest.approx(true, rel=0.1, abs=0.004)


@pytest.mark.parametrize("pitch_deg", [-6.0, 6.0])
def test_a_camera_that_looks_up_or_down_reads_the_same_turn(pitch_deg: float) -> None:
    frames, true = _clip(0.15, pitch_deg=pitch_deg)
    found = estimate_yaw(frames, _camera(pitch_deg), advance=2.0)
    assert found == pytest.approx(true, rel=0.15)


def test_a_turn_is_read_at_night() -> None:
    frames, true = _clip(0.15, hour="night")
    assert estimate_yaw(frames, _camera(), advance=2.0) == pytest.approx(true, rel=0.2)


def test_a_pure_turn_of_a_far_picture_is_read_exactly() -> None:
    # Scenery at infinity, drawn by its azimuth: column u is seen along atan((u + 0.5 - cx) / fx).
    azimuth = np.arctan((np.arange(128) + 0.5 - LENS.cx) / LENS.fx)
    turns = np.linspace(0.0, 0.06, 5)
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, (72, 12))
    waves = np.arange(8, 20)

    def frame(turn: float) -> np.ndarray:
        # A left turn moves scenery to the right: at azimuth a stands what stood at a - turn.
        seen = (azimuth - turn)[None, :, None] * waves + np.repeat(phases[::8], 8, axis=0)[:, None]
        grey = 128 + 25 * np.sin(seen).sum(axis=-1)
        grey[36:] = 128  # the ground is never at infinity
        return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=-1)

    frames = np.stack([frame(float(turn)) for turn in turns])
    assert estimate_yaw(frames, _camera()) == pytest.approx(0.06, abs=0.002)


def test_mirrored_video_turns_the_other_way() -> None:
    frames, _ = _clip(0.2)
    left = estimate_yaw(frames, _camera(), advance=2.0)
    right = estimate_yaw(np.ascontiguousarray(frames[:, :, ::-1]), _camera(), advance=2.0)
    assert right == pytest.approx(-left, rel=0.1)


def test_two_frames_are_enough_and_a_still_picture_does_not_turn() -> None:
    frames, true = _clip(0.2)
    pair = estimate_yaw(frames[[0, 4]], _camera(), advance=2.0)
    assert pair == pytest.approx(true, rel=0.2)
    still = np.repeat(frames[:1], 5, axis=0)
    assert estimate_yaw(still, _camera(), advance=0.0) == pytest.approx(0.0, abs=1e-3)
