"""Lanes: clips read in order, piece by piece, with the network's state carried along.

A drive lasts minutes, a training step a second or two of video. So a step continues where the
lane's last step ended, with the (detached) state that step left behind: truncated back-propagation
through time. The network thereby meets states as old as a clip is long, at the price of short
pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sanawm_gym.train_wm.latents_stage import LatentClip
from sanawm_gym.worldmodel.camera_condition import CameraCondition, moving_camera
from sanawm_gym.worldmodel.config import SanaWMConfig
from sanawm_gym.worldmodel.noise import mix_seed


@dataclass(frozen=True)
class Piece:
    """Consecutive latent frames of b lanes, with their cameras in moving origins."""

    latents: Float[Tensor, "b c t y x"]
    camera: CameraCondition
    """Every latent frame's camera in its own moving origin."""
    transport: Float[Tensor, "b t 4 4"]
    """How each origin follows from the one before, the state's origin included."""
    poses: Float[Tensor, "b t s 4 4"]
    """world_from_camera of every raw frame [m]; the single frame of a clip's first latent, s
    times."""
    last_pose: Float[Tensor, "b 4 4"]
    """world_from_camera of the raw frame before the piece; of its first frame where it begins."""
    intrinsics: Float[Tensor, "b 4"]
    """fx, fy, cx, cy [px]."""
    captions: list[str]
    begins: list[bool]
    """Whether the row's piece is the beginning of its clip."""
    lanes: list[int]
    """Lane of every row."""

    def select(self, rows: Sequence[int]) -> Piece:
        """Copy rows."""
        return Piece(
            latents=self.latents[rows],
            camera=self.camera.select(rows),
            transport=self.transport[rows],
            poses=self.poses[rows],
            last_pose=self.last_pose[rows],
            intrinsics=self.intrinsics[rows],
            captions=[self.captions[row] for row in rows],
            begins=[self.begins[row] for row in rows],
            lanes=[self.lanes[row] for row in rows],
        )


class Lanes:
    """Endless readers over a list of clips.

    Args:
        clips: What to read.
        num_lanes: Readers, each at a clip of its own.
        piece: Latent frames t a piece.
        model: Network that will read the cameras.
        picture: Height and width of the pictures [px].
        seed: Seed of the order of clips.
    """

    def __init__(
        self,
        clips: Sequence[LatentClip],
        *,
        num_lanes: int,
        piece: int,
        model: SanaWMConfig,
        picture: tuple[int, int],
        seed: int,
    ) -> None:
        shortest = min(clip.latents.shape[0] for clip in clips)
        if shortest < piece:
            raise ValueError(
                f"a clip has {shortest} latent frames, expected at least {piece}: encode longer "
                "clips or shorten the pieces"
            )
        self._clips, self._piece, self._seed = clips, piece, seed
        self._model, self._picture = model, picture
        self._visits = [0] * num_lanes
        self._position = [0] * num_lanes

    def read(self, lanes: Sequence[int]) -> Piece:
        """Next piece of each lane; a lane whose clip has ended goes on with another clip."""
        rows = []
        for lane in lanes:
            clip = self._clips[self._clip_of(lane)]
            if self._position[lane] + self._piece > clip.latents.shape[0]:
                self._visits[lane] += 1
                self._position[lane] = 0
                clip = self._clips[self._clip_of(lane)]
            rows.append(self._row(clip, self._position[lane], lane))
            self._position[lane] += self._piece
        return Piece(
            latents=torch.cat([row.latents for row in rows]),
            camera=CameraCondition.concat([row.camera for row in rows]),
            transport=torch.cat([row.transport for row in rows]),
            poses=torch.cat([row.poses for row in rows]),
            last_pose=torch.cat([row.last_pose for row in rows]),
            intrinsics=torch.cat([row.intrinsics for row in rows]),
            captions=[row.captions[0] for row in rows],
            begins=[row.begins[0] for row in rows],
            lanes=list(lanes),
        )

    def _row(self, clip: LatentClip, position: int, lane: int) -> Piece:
        stride, piece = self._model.temporal_stride, self._piece
        latents = clip.latents[position : position + piece]
        geometry: dict[str, Any] = {
            "image_size": self._picture,
            "grid": (latents.shape[-2], latents.shape[-1]),
            "config": self._model,
        }
        # Latent frame i ends at raw frame stride * i.
        last = max(0, stride * (position - 1))
        poses = clip.poses[last + (position > 0) : stride * (position + piece - 1) + 1][None]
        missing = stride * piece - poses.shape[1]
        if position > 0:
            geometry["last_pose"] = clip.poses[None, last]
            geometry["state_origin"] = clip.poses[None, max(0, last - stride)]
        camera, transport = moving_camera(poses, clip.intrinsics[None], **geometry)
        if self._model.warp_condition:
            warped = clip.warped[position : position + piece].float().transpose(0, 1)[None]
            camera = replace(camera, warped=warped)
        return Piece(
            latents=latents.float().transpose(0, 1)[None],
            camera=camera,
            transport=transport,
            poses=torch.cat([poses[:, :1].expand(-1, missing, -1, -1), poses], dim=1).unflatten(
                1, (piece, stride)
            ),
            last_pose=clip.poses[None, last],
            intrinsics=clip.intrinsics[None],
            captions=[clip.caption],
            begins=[position == 0],
            lanes=[lane],
        )

    def progress(self) -> dict[str, list[int]]:
        """Where every lane stands."""
        return {"visits": list(self._visits), "position": list(self._position)}

    def load_progress(self, progress: dict[str, list[int]]) -> None:
        """Go back to where :meth:`progress` was called."""
        self._visits = list(progress["visits"])
        self._position = list(progress["position"])

    def _clip_of(self, lane: int) -> int:
        return mix_seed(self._seed, lane, self._visits[lane]) % len(self._clips)
