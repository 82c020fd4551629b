"""Cameras of clips, whole or chunk by chunk.

A network that draws a clip at once sees all its cameras, in the origin of the first frame. A stream
sees those of one chunk at a time, in one of two origins: that of the first frame for ever, as the
released model does, or the pose of the last picture before the chunk, as the worlds here are driven
(see `worldmodel.world`).

Axes: b clips, f raw frames, t latent frames, s raw frames a latent frame, c channels, y and x of
the latent grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sanawm_gym.train_wm.latent_clips import LatentClip
from sanawm_gym.worldmodel.camera_condition import (
    CameraCondition,
    clip_camera,
    moving_camera,
    stream_camera,
)
from sanawm_gym.worldmodel.chunks import chunk_sizes
from sanawm_gym.worldmodel.config import SanaWMConfig

Origin = Literal["moving", "first"]
"""Where a stream's cameras are measured from: the last picture before each chunk, or frame 0."""


@dataclass(frozen=True)
class ChunkPath:
    """Cameras of one chunk of a stream."""

    start: int
    """First latent frame."""
    stop: int
    """Latent frame after the last one."""
    camera: CameraCondition
    """In the origin of the chunk."""
    transport: Float[Tensor, "b 4 4"] | None
    """Maps coordinates of the origin before to this one; None where the origin stays."""
    last_pose: Float[Tensor, "b 4 4"]
    """world_from_camera of the raw frame before the chunk; of frame 0 for the first chunk [m]."""
    poses: Float[Tensor, "b f 4 4"]
    """world_from_camera of the chunk's raw frames [m]."""


@dataclass(frozen=True)
class ClipPath:
    """Cameras of b clips of equal length."""

    poses: Float[Tensor, "b f 4 4"]
    """world_from_camera of all f = s (t - 1) + 1 raw frames [m], float64."""
    intrinsics: Float[Tensor, "b 4"]
    """fx, fy, cx, cy [px]."""
    picture: tuple[int, int]
    """Height and width of the pictures [px]."""
    grid: tuple[int, int]
    """Rows and columns of the latent grid."""

    @classmethod
    def of(
        cls, clips: Sequence[LatentClip], num_latents: int, stride: int, picture: tuple[int, int]
    ) -> ClipPath:
        """Cameras of the first latent frames of some clips.

        Args:
            clips: At least one, of one grid, none shorter than `num_latents`.
            num_latents: Latent frames t.
            stride: Raw frames s a latent frame.
            picture: Height and width of the pictures [px].
        """
        stop = stride * (num_latents - 1) + 1
        size = clips[0].latents.shape[-2:]
        return cls(
            poses=torch.stack([clip.poses[:stop].double() for clip in clips]),
            intrinsics=torch.stack([clip.intrinsics for clip in clips]),
            picture=picture,
            grid=(size[0], size[1]),
        )

    def whole(
        self, config: SanaWMConfig, warped: Float[Tensor, "b c t y x"] | None = None
    ) -> CameraCondition:
        """Condition of a network that sees the clips at once.

        Args:
            config: Of that network.
            warped: Pictures that a network with `warp_condition` is shown. None shows it nothing:
                while the clip is being drawn there is no last picture to carry along.
        """
        origin = torch.linalg.inv(self.poses[:, :1])
        camera = clip_camera(
            origin @ self.poses,
            self.intrinsics,
            image_size=self.picture,
            grid=self.grid,
            config=config,
        )
        if not config.warp_condition:
            return camera
        if warped is None:
            num_latents = camera.world_from_camera.shape[1]
            warped = torch.zeros(len(self.poses), config.in_channels, num_latents, *self.grid)
        return replace(camera, warped=warped)

    def moving(self, config: SanaWMConfig) -> tuple[CameraCondition, Float[Tensor, "b t 4 4"]]:
        """Cameras of a stream of single frames at once; see `moving_camera`.

        Args:
            config: Of the streaming network.
        """
        return moving_camera(
            self.poses,
            self.intrinsics,
            image_size=self.picture,
            grid=self.grid,
            config=config,
        )

    def chunks(self, config: SanaWMConfig, origin: Origin) -> list[ChunkPath]:
        """What a stream is shown, chunk by chunk; warped pictures are for the caller to add.

        Args:
            config: Of the streaming network; gives stride and chunks.
            origin: Where the cameras of a chunk are measured from.

        Raises:
            ValueError: If the network carries pictures over the ground but draws several at once.
        """
        if config.warp_condition and (config.chunk_size, config.first_chunk_size) != (1, 1):
            raise ValueError(
                f"got warp_condition with chunk_size={config.chunk_size} and chunk_split="
                f"{config.chunk_split!r}: only a stream of uniform chunks of 1 has a last picture "
                "before every latent frame"
            )
        stride = config.temporal_stride
        num_latents = (self.poses.shape[1] - 1) // stride + 1
        stops = list(accumulate(chunk_sizes(num_latents, config, "chunk_causal")))
        paths = []
        before = self.poses[:, 0]
        for start, stop in zip([0, *stops], stops, strict=False):
            last = self.poses[:, max(0, stride * (start - 1))]
            poses = self.poses[
                :, stride * (start - 1) + 1 if start else 0 : stride * (stop - 1) + 1
            ]
            centre = last if origin == "moving" else self.poses[:, 0]
            to_origin = torch.linalg.inv(centre)
            condition = stream_camera if start else clip_camera
            camera = condition(
                to_origin[:, None] @ poses,
                self.intrinsics,
                image_size=self.picture,
                grid=self.grid,
                config=config,
            )
            moves = origin == "moving" and start > 0
            paths.append(
                ChunkPath(
                    start=start,
                    stop=stop,
                    camera=camera,
                    transport=to_origin @ before if moves else None,
                    last_pose=last,
                    poses=poses,
                )
            )
            before = centre
        return paths
