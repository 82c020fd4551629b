"""Actions and observations, the same for the generated and for the reference world.

Axes: b cars, h and w of the picture, c channels of a latent.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from jaxtyping import Float32, Float64
from numpy.typing import NDArray

from sanawm_gym.vehicle import ACCELERATION, SPEED, STEER, KinematicBicycle, VehicleConfig

FPS = 16.0
"""Raw frames a second."""
FRAMES_PER_DECISION = 4
"""Raw frames that one action is held for: four decisions a second."""
EGO_NAMES = ("speed", "steer", "acceleration", "yaw_rate")
OBSERVATION_MODES = ("dict", "camera", "latent")
LATENT_BOUND = 16.0
"""Latents are normalised to unit variance; what lies beyond is clipped in observations."""

Observation = NDArray[np.generic] | dict[str, NDArray[np.generic]]
"""A batched or single observation of any mode."""


def action_space() -> spaces.Box:
    """Steer (+1 is full left) and throttle (> 0) or brake (< 0), each in [-1, 1]."""
    return spaces.Box(-1.0, 1.0, (2,), np.float32)


def ego_space(vehicle: VehicleConfig) -> spaces.Box:
    """Speed [m/s], wheel angle [rad], acceleration [m/s^2] and yaw rate [rad/s] of a car."""
    high = np.array(
        [vehicle.max_speed, vehicle.max_steer, vehicle.max_accel, vehicle.max_yaw_rate], np.float32
    )
    low = -high
    low[EGO_NAMES.index("speed")] = 0.0
    low[EGO_NAMES.index("acceleration")] = -vehicle.max_brake
    return spaces.Box(low, high, dtype=np.float32)


def camera_space(height: int, width: int) -> spaces.Box:
    """An RGB picture, uint8 (height, width, 3)."""
    return spaces.Box(0, 255, (height, width, 3), np.uint8)


def observation_space(
    mode: str,
    *,
    height: int,
    width: int,
    vehicle: VehicleConfig,
    latent_shape: tuple[int, ...] | None = None,
) -> spaces.Space[Any]:
    """Observation space of one car.

    Args:
        mode: `dict` (camera and ego), `camera` (the picture alone) or `latent` (the newest latent
            frame instead of the picture, and ego).
        height: Picture height [px].
        width: Picture width [px].
        vehicle: The car, whose limits bound the ego vector.
        latent_shape: (c, h, w) of a latent frame; only needed for `latent`.

    Raises:
        ValueError: If the mode is unknown, or `latent` where there are no latents.
    """
    if mode == "camera":
        return camera_space(height, width)
    if mode == "dict":
        return spaces.Dict({"camera": camera_space(height, width), "ego": ego_space(vehicle)})
    if mode == "latent" and latent_shape is not None:
        latent = spaces.Box(-LATENT_BOUND, LATENT_BOUND, latent_shape, np.float32)
        return spaces.Dict({"latent": latent, "ego": ego_space(vehicle)})
    known = OBSERVATION_MODES if latent_shape is not None else OBSERVATION_MODES[:2]
    raise ValueError(f"observation: got {mode!r}, expected one of {list(known)}; try 'dict'")


def ego_observation(
    state: Float64[np.ndarray, "*b 6"], bicycle: KinematicBicycle
) -> Float32[np.ndarray, "*b 4"]:
    """What the car feels of its own motion, within the bounds of `ego_space`."""
    ego = np.stack(
        [state[..., SPEED], state[..., STEER], state[..., ACCELERATION], bicycle.yaw_rate(state)],
        axis=-1,
    ).astype(np.float32)
    space = ego_space(bicycle.config)
    # The limits hold in float64 up to a last bit that the tangent may round the wrong way.
    return np.asarray(np.clip(ego, space.low, space.high))


def check_actions(
    actions: Any, num_rows: int | None
) -> Float32[np.ndarray, "b 2"] | Float32[np.ndarray, " 2"]:
    """Read actions; values beyond [-1, 1] are clipped, as pedals and wheels end there.

    Args:
        actions: (steer, throttle/brake) of every car, or of the only one.
        num_rows: Number of cars; None for a single action without a batch axis.

    Raises:
        ValueError: If the shape is wrong or a value is not a finite number.
    """
    shape = (2,) if num_rows is None else (num_rows, 2)
    numbers = read_numbers(actions, shape, "(steer, throttle/brake)")
    return np.asarray(np.clip(numbers, -1.0, 1.0))


def read_numbers(actions: Any, shape: tuple[int, ...], meaning: str) -> Float32[np.ndarray, "..."]:
    """Read actions of a shape.

    Args:
        actions: What was given.
        shape: What it should be, with an axis of cars in a vector environment.
        meaning: Of the last axis, for the message.

    Raises:
        ValueError: If the shape is wrong or a value is not a finite number.
    """
    try:
        array = np.asarray(actions, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"action: got {actions!r}, expected numbers of shape {shape}: {meaning}; "
            "pass a float32 array"
        ) from error
    if array.shape != shape:
        raise ValueError(
            f"action: got shape {array.shape}, expected {shape}: {meaning} of each car; a single "
            "environment takes no batch axis, a vector environment one row a car"
        )
    if not np.isfinite(array).all():
        raise ValueError(
            f"action: got {array.tolist()}, expected finite numbers; look for a diverged policy"
        )
    return array
