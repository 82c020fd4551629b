"""The camera that took the first picture, as far as the user says."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated

import tyro

from sanawm_gym.camera import CameraRig


@dataclass(frozen=True, kw_only=True)
class CameraConfig:
    """The camera that took the picture."""

    intrinsics: Annotated[
        tuple[float, float, float, float] | None, tyro.conf.arg(metavar="FX FY CX CY")
    ] = None
    """fx, fy, cx, cy in pixels of the picture as it is given."""
    fov_deg: Annotated[float | None, tyro.conf.arg(metavar="DEG")] = None
    """Horizontal field of view [deg], 25 to 120, instead of intrinsics. Without either: what the
    file of poses says, what is known of a start context, or 70."""
    camera_height: Annotated[float | None, tyro.conf.arg(metavar="M")] = None
    """Height above the ground [m], above 0; 1.5 or the context's if not given."""
    camera_pitch_deg: Annotated[float | None, tyro.conf.arg(metavar="DEG")] = None
    """How far it looks down [deg], within +-45; 0 or the context's if not given."""

    def __post_init__(self) -> None:
        """Refuse two lenses; the mount is checked by `CameraRig`."""
        if self.intrinsics is not None and self.fov_deg is not None:
            raise ValueError(
                f"lens: got intrinsics {self.intrinsics} and fov_deg {self.fov_deg:g}, expected "
                "one of them"
            )
        self.mounted(CameraRig())

    def mounted(self, rig: CameraRig) -> CameraRig:
        """A mount with what is said here.

        Raises:
            ValueError: If it is impossible.
        """
        said = {"z": self.camera_height, "pitch_deg": self.camera_pitch_deg}
        return dataclasses.replace(rig, **{k: v for k, v in said.items() if v is not None})
