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

from sanawm_gym.train_wm.latent_clips import LatentClip
from sanawm_gym.worldmodel.camera_condition import CameraCondition, moving_camera
from sanawm_gym.worldmodel.config import SanaWMConfig
from sanawm_gym.worldmodel.noise import mix_seed


@dataclass(frozen=True)
class DrawnPast:
    """What a network left alone drew in place of a piece; the piece itself where it drew none."""

    latents: Float[Tensor, "b c t y x"]
    warped: Float[Tensor, "b c t y x"]
    """As `CameraCondition.warped`, of the pictures that were drawn."""

    def select(self, rows: Sequence[int]) -> DrawnPast:
        """Copy rows."""
        return DrawnPast(latents=self.latents[rows], warped=self.warped[rows])


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
    exchanged: list[bool]
    """Whether the row's latents and caption are those of another clip than its cameras."""
    drawn: DrawnPast | None = None
    """None when none of the clips has rollouts."""

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
            exchanged=[self.exchanged[row] for row in rows],
            drawn=None if self.drawn is None else self.drawn.select(rows),
        )


class Lanes:
    """Endless readers over a list of clips.

    Args:
        clips: What to read.
        lanes: Numbers of the readers, each at a clip of its own. What a reader reads follows from
            its number and the seed, whatever other readers there are.
        piece: Latent frames t a piece.
        model: Network that will read the cameras.
        picture: Height and width of the pictures [px].
        seed: Seed of the order of clips.
        laps: Times a clip is read before the lane goes on to another. From its second lap on it
            begins at its second latent frame, seen from where the lap before ended, so that a
            stream of the network's own goes on for longer than a clip lasts. Clips of drives that
            leave the road are read once: who ends in a field would be told to draw a road there.
        exchange: Share of the laps after the first that keep their cameras and go on under the
            caption and with the latent frames of another clip, 0 to 1: the world is asked to
            change. Neither clip is one of a drive that leaves the road.
    """

    def __init__(
        self,
        clips: Sequence[LatentClip],
        *,
        lanes: Sequence[int],
        piece: int,
        model: SanaWMConfig,
        picture: tuple[int, int],
        seed: int,
        laps: int = 1,
        exchange: float = 0.0,
    ) -> None:
        shortest = min(clip.latents.shape[0] for clip in clips)
        needed = piece if laps == 1 else max(piece + 1, 3)
        if shortest < needed:
            raise ValueError(
                f"a clip has {shortest} latent frames, expected at least {needed}: encode longer "
                "clips or shorten the pieces"
            )
        self._clips, self._piece, self._seed = clips, piece, seed
        self._on_road = [clip for clip in clips if not clip.strays]
        self._model, self._picture = model, picture
        self._has_drawn = any(clip.drawn is not None for clip in clips)
        self._visits = dict.fromkeys(lanes, 0)
        self._position = dict.fromkeys(lanes, 0)
        self._laps, self._lap, self._exchange = laps, dict.fromkeys(lanes, 0), exchange

    def read(self, lanes: Sequence[int]) -> Piece:
        """Next piece of each lane; a lane whose clip has ended goes on with another clip."""
        rows = []
        for lane in lanes:
            clip = self._clips[self._clip_of(lane)]
            if self._position[lane] + self._piece > clip.latents.shape[0]:
                row = self._turn(clip, lane)
            else:
                row = self._row(clip, self._position[lane], lane)
            rows.append(row)
            self._position[lane] += self._piece
        pasts = [row.drawn for row in rows if row.drawn is not None]
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
            exchanged=[row.exchanged[0] for row in rows],
            drawn=DrawnPast(
                latents=torch.cat([past.latents for past in pasts]),
                warped=torch.cat([past.warped for past in pasts]),
            )
            if pasts
            else None,
        )

    def _turn(self, clip: LatentClip, lane: int) -> Piece:
        """First piece after the lane's clip has ended: of another lap, or of another clip."""
        self._lap[lane] = (self._lap[lane] + 1) % (1 if clip.strays else self._laps)
        if self._lap[lane]:
            stop = self._model.temporal_stride * (self._position[lane] - 1)
            before = clip.poses[stop - self._model.temporal_stride]
            origin = clip.poses[0] @ torch.linalg.inv(clip.poses[stop]) @ before
            self._position[lane] = 1
            return self._row(clip, 1, lane, origin)
        self._visits[lane] += 1
        self._position[lane] = 0
        return self._row(self._clips[self._clip_of(lane)], 0, lane)

    def _row(
        self, clip: LatentClip, position: int, lane: int, state_origin: Tensor | None = None
    ) -> Piece:
        stride, piece = self._model.temporal_stride, self._piece
        span = slice(position, position + piece)
        shown = self._shown(clip, lane)
        start = position % (shown.latents.shape[0] - piece + 1)
        latents = shown.latents[start : start + piece]
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
            if state_origin is None:
                state_origin = clip.poses[max(0, last - stride)]
            geometry["state_origin"] = state_origin[None]
        camera, transport = moving_camera(poses, clip.intrinsics[None], **geometry)
        if self._model.warp_condition:
            camera = replace(camera, warped=_channels_first(clip.warped[span]))
        drawn = None
        if self._has_drawn:
            drawn = DrawnPast(
                latents=_channels_first((clip.latents if clip.drawn is None else clip.drawn)[span]),
                warped=_channels_first(
                    (clip.warped if clip.drawn_warped is None else clip.drawn_warped)[span]
                ),
            )
        return Piece(
            latents=_channels_first(latents),
            camera=camera,
            transport=transport,
            poses=torch.cat([poses[:, :1].expand(-1, missing, -1, -1), poses], dim=1).unflatten(
                1, (piece, stride)
            ),
            last_pose=clip.poses[None, last],
            intrinsics=clip.intrinsics[None],
            captions=[shown.caption],
            begins=[position == 0],
            lanes=[lane],
            exchanged=[shown is not clip],
            drawn=drawn,
        )

    def _shown(self, clip: LatentClip, lane: int) -> LatentClip:
        """Clip whose caption and latent frames the lane's present lap has."""
        lap = self._lap[lane]
        key = mix_seed(self._seed, lane, self._visits[lane], lap)
        if lap == 0 or key % 1000 >= 1000 * self._exchange:
            return clip
        return self._on_road[mix_seed(key, 1) % len(self._on_road)]

    def progress(self) -> dict[int, dict[str, int]]:
        """Where every lane stands."""
        return {
            lane: {
                "visits": visits,
                "position": self._position[lane],
                "lap": self._lap[lane],
            }
            for lane, visits in self._visits.items()
        }

    def load_progress(self, progress: dict[int, dict[str, int]]) -> None:
        """Go back to where :meth:`progress` was called.

        Args:
            progress: Of these lanes, and of any others besides; lanes that it lacks begin.
        """
        for lane in self._visits:
            if lane in progress:
                self._visits[lane] = progress[lane]["visits"]
                self._position[lane] = progress[lane]["position"]
                self._lap[lane] = progress[lane]["lap"]

    def _clip_of(self, lane: int) -> int:
        return mix_seed(self._seed, lane, self._visits[lane]) % len(self._clips)


def _channels_first(latents: Float[Tensor, "t c y x"]) -> Float[Tensor, "1 c t y x"]:
    return latents.float().transpose(0, 1)[None]
