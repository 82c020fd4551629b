"""One drive through a reference world: scene, road, traffic and our own car, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from sanawm_gym.camera import CameraRig, Intrinsics
from sanawm_gym.vehicle import SPEED, YAW, KinematicBicycle, VehicleConfig, X, Y, vehicle_state

from ..spaces import FPS
from .driver import GoodDriver
from .renderer import Renderer
from .road import Road
from .scene import SceneConfig
from .traffic import Traffic
from .truth import Truth, box_center, distance_outside, measure

START = 75.0  # where drives begin, so that there is road behind [m]


@dataclass(frozen=True, kw_only=True)
class StartState:
    """How a drive begins.

    Attributes:
        lane: Index of the forward lane.
        speed: Speed [m/s].
        offset: Distance to the left of the lane's middle [m].
        heading_error: Heading relative to the lane [rad].
    """

    lane: int = 0
    speed: float = 8.0
    offset: float = 0.0
    heading_error: float = 0.0


class ReferenceWorld:
    """A drive: call `start`, then `advance` with actions, and read state, truth and pictures."""

    def __init__(
        self,
        scene: SceneConfig,
        *,
        length: float,
        seed: int,
        vehicle: VehicleConfig | None = None,
        intrinsics: Intrinsics | None = None,
        rig: CameraRig | None = None,
    ) -> None:
        """Build road and traffic.

        Args:
            scene: What the world looks like.
            length: Length of road to drive [m].
            seed: Seed of the traffic.
            vehicle: The ego's car.
            intrinsics: Lens and picture size; the scene's field of view at 128 x 72 by default.
            rig: Mount of the camera; the scene's height and pitch by default.
        """
        self.scene = scene
        self.bicycle = KinematicBicycle(vehicle)
        self.vehicle = self.bicycle.config
        self.road = Road(scene, length + START + 250.0)
        self.renderer = Renderer(scene, self.road, intrinsics, rig)
        self.expert = GoodDriver(self.road, self.vehicle)
        self.traffic = Traffic(scene, self.road, seed, self.vehicle.length, self.vehicle.width)
        self.state = vehicle_state()

    def start(self, start: StartState | None = None) -> None:
        """Put the car on the road and traffic around it."""
        start = start or StartState()
        lanes = [lane for lane in self.road.forward_lanes if self.road.is_usable(lane, START)]
        lane = lanes[start.lane % len(lanes)]
        x, y, heading = (float(v) for v in self.road.point(START, lane.center + start.offset))
        self.state = vehicle_state(x=x, y=y, yaw=heading + start.heading_error, speed=start.speed)
        self.traffic.reset(box_center(self.state, self.vehicle))

    def advance(self, action: Float64[np.ndarray, "2"], num_frames: int = 1) -> None:
        """Hold an action for some frames."""
        states = self.bicycle.advance(self.state[None], np.asarray(action)[None], num_frames, FPS)[
            0
        ]
        for state in states:
            self.follow(state)

    def follow(self, state: Float64[np.ndarray, "6"]) -> None:
        """Be where the car is one frame later; traffic goes on by that frame."""
        self.state = state
        self.traffic.step(box_center(state, self.vehicle), 1.0 / FPS)

    def truth(self) -> Truth:
        """The truth of this moment."""
        others = self.traffic.states()
        return measure(
            self.road, self.state, others, vehicle=self.vehicle, crashed=self.traffic.crashed
        )

    def expert_action(self) -> Float64[np.ndarray, "2"]:
        """What the good driver would do now."""
        return self.expert.act(
            self.state, self.traffic.states(), speed_limit=self.scene.speed_limit
        )

    def outside(self) -> float:
        """How far the whole car has left the road [m]; negative while part of it is on the road."""
        return distance_outside(self.state, self.vehicle, self.road)

    def is_at_end(self) -> bool:
        """Whether the road is about to end."""
        s, _ = self.road.locate(self.state[X], self.state[Y])
        return bool(s > self.road.length - 200.0)

    def render(self) -> UInt8[np.ndarray, "h w 3"]:
        """The picture of this moment."""
        return self.renderer.render(*self._place(), self.traffic.cars())

    def depth(self) -> Float32[np.ndarray, "h w"]:
        """Depth of the picture [m]; see `Renderer.depth`."""
        return self.renderer.depth(*self._place(), self.traffic.cars())

    def pose(self) -> Float64[np.ndarray, "4 4"]:
        """world_from_camera of this moment."""
        return self.renderer.pose(*self._place())

    def yaw_rate(self) -> float:
        """Yaw rate [rad/s]."""
        return float(self.bicycle.yaw_rate(self.state[None])[0])

    @property
    def speed(self) -> float:
        """Speed [m/s]."""
        return float(self.state[SPEED])

    def _place(self) -> tuple[float, float, float]:
        return float(self.state[X]), float(self.state[Y]), float(self.state[YAW])
