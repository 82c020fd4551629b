"""Camera input of the network, from the poses of raw frames.

A latent frame stands for `temporal_stride` raw frames, the first latent of a clip for one. Its pose
is that of its last raw frame; its Plücker map packs all of them. Three ways to choose the origin:

* `clip_camera`: a whole clip; poses as given (make them relative to frame 0 first).
* `stream_camera`: further latents of a stream; poses as given, in the stream's origin.
* `moving_camera`: every latent frame in its own origin, the pose of the last raw frame seen before
  it. Then pose inputs stay within one step's motion for ever, and `transport` tells how each origin
  follows from the one before; see `SanaWMState.reanchor` and `SanaWM.unroll`.

Axes: b clips, f raw frames, t latent frames, r raw frames of a latent frame, h and w of the grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .config import SanaWMConfig
from .plucker import plucker_map
from .ucpe import invert_rigid


@dataclass(frozen=True, kw_only=True)
class CameraCondition:
    """What the network is told about the camera.

    Attributes:
        world_from_camera: Pose of each latent frame, OpenCV axes, metres.
        intrinsics: fx, fy, cx, cy in latent-grid units (integer grid points, no half pixel).
        plucker: Packed map with translations in camera units, or None to leave that branch out.
        warped: Latents of the last picture as these cameras would see it, for networks with
            `warp_condition`; zero where there is no last picture.
        known: Rows whose camera the network is told. Both camera branches are left out of the
            others, as without a condition. None tells all of them.
    """

    world_from_camera: Float[Tensor, "b t 4 4"]
    intrinsics: Float[Tensor, "b t 4"]
    plucker: Float[Tensor, "b p t h w"] | None
    warped: Float[Tensor, "b c t h w"] | None = None
    known: Bool[Tensor, " b"] | None = None

    def frames(self, start: int, stop: int) -> CameraCondition:
        """The condition of latent frames start ... stop - 1."""
        return CameraCondition(
            world_from_camera=self.world_from_camera[:, start:stop],
            intrinsics=self.intrinsics[:, start:stop],
            plucker=None if self.plucker is None else self.plucker[:, :, start:stop],
            warped=None if self.warped is None else self.warped[:, :, start:stop],
            known=self.known,
        )

    def select(self, indices: Sequence[int] | Tensor) -> CameraCondition:
        """Copy rows; an index may repeat."""
        rows = torch.as_tensor(indices, dtype=torch.long, device=self.intrinsics.device)
        return self._map(lambda x: x[rows])

    def to(self, device: torch.device | str) -> CameraCondition:
        """The same values on another device."""
        return self._map(lambda x: x.to(device))

    def _map(self, function: Callable[[Tensor], Tensor]) -> CameraCondition:
        return CameraCondition(
            world_from_camera=function(self.world_from_camera),
            intrinsics=function(self.intrinsics),
            plucker=None if self.plucker is None else function(self.plucker),
            warped=None if self.warped is None else function(self.warped),
            known=None if self.known is None else function(self.known),
        )

    @staticmethod
    def concat(conditions: Sequence[CameraCondition]) -> CameraCondition:
        """Stack the rows of several conditions; all must have the same maps."""
        pluckers = [c.plucker for c in conditions if c.plucker is not None]
        warped = [c.warped for c in conditions if c.warped is not None]
        known = [c.known for c in conditions if c.known is not None]
        for maps in (pluckers, warped, known):
            assert len(maps) in (0, len(conditions))
        return CameraCondition(
            world_from_camera=torch.cat([c.world_from_camera for c in conditions]),
            intrinsics=torch.cat([c.intrinsics for c in conditions]),
            plucker=torch.cat(pluckers) if pluckers else None,
            warped=torch.cat(warped) if warped else None,
            known=torch.cat(known) if known else None,
        )

    def frames_as_rows(self) -> CameraCondition:
        """Every latent frame as a row of its own, rows (b t): for stepping all frames at once."""

        def as_rows(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.transpose(1, 2).flatten(0, 1)[:, :, None]

        num_frames = self.intrinsics.shape[1]
        return CameraCondition(
            world_from_camera=self.world_from_camera.flatten(0, 1)[:, None],
            intrinsics=self.intrinsics.flatten(0, 1)[:, None],
            plucker=as_rows(self.plucker),
            warped=as_rows(self.warped),
            known=None if self.known is None else self.known.repeat_interleave(num_frames),
        )


def latent_intrinsics(
    intrinsics_px: Float[Tensor, "*n 4"], image_size: tuple[int, int], grid: tuple[int, int]
) -> Float[Tensor, "*n 4"]:
    """Pixel intrinsics in units of the latent grid.

    Args:
        intrinsics_px: fx, fy, cx, cy in pixels of the image.
        image_size: Height and width of the image, pixels.
        grid: Rows and columns of the latent grid.
    """
    y, x = grid[0] / image_size[0], grid[1] / image_size[1]
    return intrinsics_px * intrinsics_px.new_tensor([x, y, x, y])


def _group_clip(raw: Tensor, config: SanaWMConfig) -> tuple[Tensor, Tensor]:
    """Poses (b t 4 4) and groups (b t r 4 4) of a clip whose first latent is one raw frame."""
    stride = config.temporal_stride
    num_frames = raw.shape[1]
    if num_frames % stride != 1 % stride:
        raise ValueError(
            f"got a clip of {num_frames} raw frames; expected a multiple of {stride} plus 1, "
            "since the first latent frame stands for one raw frame. Trim the clip."
        )
    if config.plucker_first_group == "repeat":
        first = raw[:, :1].expand(-1, stride, -1, -1)
    else:
        last = raw[:, -1:].expand(-1, stride, -1, -1)
        first = torch.cat([raw, last], dim=1)[:, :stride]
    later = raw[:, 1:].unflatten(1, (-1, stride)) if num_frames > 1 else raw[:, None, :0]
    groups = torch.cat([first[:, None], later], dim=1) if num_frames > 1 else first[:, None]
    return raw[:, ::stride], groups


def _group_stream(raw: Tensor, config: SanaWMConfig) -> tuple[Tensor, Tensor]:
    """Poses and groups of further latent frames of a stream."""
    stride = config.temporal_stride
    if raw.shape[1] == 0 or raw.shape[1] % stride:
        raise ValueError(
            f"got {raw.shape[1]} raw poses; expected a positive multiple of {stride}, the raw "
            "frames of a latent frame."
        )
    groups = raw.unflatten(1, (-1, stride))
    return groups[:, :, -1], groups


def _condition(
    poses: Tensor,
    groups: Tensor,
    intrinsics_px: Tensor,
    image_size: tuple[int, int],
    grid: tuple[int, int],
    config: SanaWMConfig,
    groups_px: Tensor | None = None,
) -> CameraCondition:
    """Intrinsics are one a clip (b 4), or one a latent frame with those of its raw frames."""
    intrinsics = latent_intrinsics(intrinsics_px.to(poses.dtype), image_size, grid)
    if intrinsics.ndim == 2:
        intrinsics = intrinsics[:, None].expand(-1, poses.shape[1], -1)
    of_rays = intrinsics
    if groups_px is not None:
        of_rays = latent_intrinsics(groups_px.to(poses.dtype), image_size, grid)
    in_units = groups.clone()
    in_units[..., :3, 3] /= config.camera_unit_m
    dtype = torch.float32
    plucker = plucker_map(in_units.to(dtype), of_rays.to(dtype), grid)
    return CameraCondition(
        world_from_camera=poses.to(dtype), intrinsics=intrinsics.to(dtype), plucker=plucker
    )


def _grouped_lenses(
    intrinsics_px: Tensor,
    group: Callable[[Tensor, SanaWMConfig], tuple[Tensor, Tensor]],
    config: SanaWMConfig,
) -> tuple[Tensor, Tensor | None]:
    """Intrinsics of latent frames (b t 4) and of their raw frames, where a lens zooms."""
    if intrinsics_px.ndim == 2:
        return intrinsics_px, None
    lenses, groups = group(intrinsics_px[:, :, None], config)
    return lenses[:, :, 0], groups[:, :, :, 0]


def clip_camera(
    raw_poses: Float[Tensor, "b f 4 4"],
    intrinsics_px: Float[Tensor, "b 4"] | Float[Tensor, "b f 4"],
    *,
    image_size: tuple[int, int],
    grid: tuple[int, int],
    config: SanaWMConfig,
) -> CameraCondition:
    """Condition of a clip of f = stride * (t - 1) + 1 raw frames.

    Args:
        raw_poses: world_from_camera of every raw frame, metres; give float64 when far from 0.
        intrinsics_px: fx, fy, cx, cy in pixels, one a clip or one a raw frame.
        image_size: Height and width of the image, pixels.
        grid: Rows and columns of the latent grid.
        config: Gives stride, unit and the packing of latent 0.

    Raises:
        ValueError: If the number of raw frames does not fit the stride.
    """
    poses, groups = _group_clip(raw_poses, config)
    lenses, of_groups = _grouped_lenses(intrinsics_px, _group_clip, config)
    return _condition(poses, groups, lenses, image_size, grid, config, of_groups)


def stream_camera(
    raw_poses: Float[Tensor, "b f 4 4"],
    intrinsics_px: Float[Tensor, "b 4"] | Float[Tensor, "b f 4"],
    *,
    image_size: tuple[int, int],
    grid: tuple[int, int],
    config: SanaWMConfig,
) -> CameraCondition:
    """Condition of f / stride further latent frames of a stream; arguments as `clip_camera`."""
    poses, groups = _group_stream(raw_poses, config)
    lenses, of_groups = _grouped_lenses(intrinsics_px, _group_stream, config)
    return _condition(poses, groups, lenses, image_size, grid, config, of_groups)


def moving_camera(
    raw_poses: Float[Tensor, "b f 4 4"],
    intrinsics_px: Float[Tensor, "b 4"],
    *,
    image_size: tuple[int, int],
    grid: tuple[int, int],
    config: SanaWMConfig,
    last_pose: Float[Tensor, "b 4 4"] | None = None,
    state_origin: Float[Tensor, "b 4 4"] | None = None,
) -> tuple[CameraCondition, Float[Tensor, "b t 4 4"]]:
    """Condition with every latent frame in its own origin, and how the origins follow each other.

    Args:
        raw_poses: world_from_camera of the raw frames in any world frame, metres, float64 when far
            from 0. Without `last_pose` a clip of stride * (t - 1) + 1 frames, whose first latent
            has its own frame 0 as origin; with it stride * t further frames.
        intrinsics_px: fx, fy, cx, cy in pixels.
        image_size: Height and width of the image, pixels.
        grid: Rows and columns of the latent grid.
        config: Gives stride, unit and the packing of latent 0.
        last_pose: Pose of the last raw frame seen before these, the origin of the first latent.
        state_origin: Origin (a pose in the same world frame) in which the incoming state is
            expressed; default the origin of the first latent, so that transport[:, 0] is I.

    Returns:
        The condition, and transport (b t 4 4, float64): entry t maps coordinates of the origin
        before frame t to those of frame t's own origin.
    """
    raw = raw_poses.to(torch.float64)
    if last_pose is None:
        poses, groups = _group_clip(raw, config)
        first = poses[:, :1]
    else:
        poses, groups = _group_stream(raw, config)
        first = last_pose.to(torch.float64)[:, None]
    origins = torch.cat([first, poses[:, :-1]], dim=1)
    before = first if state_origin is None else state_origin.to(torch.float64)[:, None]
    to_origin = invert_rigid(origins)
    transport = to_origin @ torch.cat([before, origins[:, :-1]], dim=1)
    condition = _condition(
        to_origin @ poses, to_origin[:, :, None] @ groups, intrinsics_px, image_size, grid, config
    )
    return condition, transport
