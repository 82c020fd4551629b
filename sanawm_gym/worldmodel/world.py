"""A world: network, autoencoder and text encoder behind ``start`` and ``step``.

The state is a value. ``step`` reads one and returns another, so copying a state forks the world.

**Origin.** Before every chunk the origin moves to the pose of the last raw frame that was drawn and
the next latent frame gets index 0. A camera pose in the network therefore never exceeds the motion
within one chunk, and no rotary index grows, however long the drive: the state is carried into the
new origin in closed form by :meth:`SanaWMState.reanchor`.

Axes: b rows, f raw frames, h rows and w columns of a picture.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from sanawm_gym.camera import CameraRig, camera_poses
from sanawm_gym.geometry import check_poses, planar_pose
from sanawm_gym.worldmodel.autoencoder import VideoAutoencoder, VideoAutoencoderConfig
from sanawm_gym.worldmodel.camera_condition import moving_camera
from sanawm_gym.worldmodel.config import SanaWMConfig
from sanawm_gym.worldmodel.folder import load_weights, read_config, save_module, write_json
from sanawm_gym.worldmodel.ground_warp import check_camera_height, warped_clip, warped_latent
from sanawm_gym.worldmodel.model import SanaWM
from sanawm_gym.worldmodel.noise import row_noise
from sanawm_gym.worldmodel.sampler import sample_chunk
from sanawm_gym.worldmodel.source import choose_dtype, find_world
from sanawm_gym.worldmodel.text import CaptionEncoder, CaptionEncoderConfig
from sanawm_gym.worldmodel.world_state import WorldState

ASSUMED_HEIGHT_M = 1.5
"""Camera height of a picture that comes without a pose."""


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """What a world needs to know beside the weights of its parts."""

    width: int = 128
    """Width of the pictures [px]."""
    height: int = 72
    """Height of the pictures [px]."""
    fps: float = 16.0
    """Raw frames a second."""
    sigmas: tuple[float, ...] = (1.0,)
    """Noise levels the streaming sampler denoises at, falling from 1, without the final 0."""
    still_way: float = 0.0
    """Way of the camera within a step [m] below which the next latent is mixed with the last, so
    that the picture of a camera at rest stands still, >= 0. A stream that redraws a standing
    picture over and over grows patterns in it."""

    def __post_init__(self) -> None:
        """Refuse an empty or rising schedule."""
        levels = self.sigmas
        if not levels or levels[0] != 1.0 or list(levels) != sorted(set(levels), reverse=True):
            raise ValueError(f"sigmas must fall from 1.0 without repeats, got {levels}")
        if not self.still_way >= 0:
            raise ValueError(f"got still_way={self.still_way}, expected metres >= 0")


class WorldModel:
    """A generated world that is driven by camera poses.

    Args:
        config: Picture size, clock and sampler.
        network: Velocity network with chunks of one latent frame.
        autoencoder: Pixels to latents and back.
        text_encoder: Prompts to features.
    """

    def __init__(
        self,
        config: WorldConfig,
        network: SanaWM,
        autoencoder: VideoAutoencoder,
        text_encoder: CaptionEncoder,
    ) -> None:
        self.config = config
        self.network = network.eval().requires_grad_(False)
        self.autoencoder = autoencoder.eval().requires_grad_(False)
        self.text_encoder = text_encoder.eval().requires_grad_(False)
        self.width, self.height, self.fps = config.width, config.height, config.fps
        self.frames_per_step = autoencoder.config.temporal_stride * network.config.chunk_size

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path = "drive", *, device: str = "cpu", dtype: str = "auto"
    ) -> WorldModel:
        """Load a world.

        Args:
            name_or_path: Name of a bundled world, a folder, or a hub id ``owner/name``.
            device: Torch device.
            dtype: ``float32``, ``bfloat16`` or ``auto``: bfloat16 where the processor multiplies in
                it, float32 elsewhere. Recurrent states are float32 in either case.

        Raises:
            ValueError: If there is no such world, or its files do not fit their configuration.
        """
        folder = find_world(name_or_path)
        config = read_config(folder / "world.json", WorldConfig)
        network = SanaWM(read_config(folder / "network.json", SanaWMConfig))
        autoencoder = VideoAutoencoder(
            read_config(folder / "autoencoder.json", VideoAutoencoderConfig)
        )
        text_encoder = CaptionEncoder(
            read_config(folder / "text_encoder.json", CaptionEncoderConfig)
        )
        modules = {"network": network, "autoencoder": autoencoder, "text_encoder": text_encoder}
        for name, module in modules.items():
            load_weights(folder, name, module)
        chosen = choose_dtype(dtype, device)
        network.to(device, chosen)
        autoencoder.to(device, chosen)
        text_encoder.to(device)
        return cls(config, network, autoencoder, text_encoder)

    def save_pretrained(self, path: str | Path) -> None:
        """Write the world into a folder that :meth:`from_pretrained` reads."""
        folder = Path(path)
        save_module(folder, "network", self.network, self.network.config)
        save_module(folder, "autoencoder", self.autoencoder, self.autoencoder.config)
        save_module(folder, "text_encoder", self.text_encoder, self.text_encoder.config)
        write_json(folder / "world.json", dataclasses.asdict(self.config))

    @torch.no_grad()
    def start(
        self,
        images: np.ndarray,
        *,
        prompts: Sequence[str],
        intrinsics: Float[np.ndarray, "b 4"],
        seeds: Sequence[int],
        poses: Float[np.ndarray, "b f 4 4"] | None = None,
    ) -> WorldState:
        """Begin b drives from one picture each, or from a short clip of known poses.

        Args:
            images: RGB bytes (b, h, w, 3), or (b, f, h, w, 3) with f a multiple of the temporal
                stride plus one.
            prompts: One description a row; words the world never learnt are named in a warning.
            intrinsics: fx, fy, cx, cy of every row in pixels of the world's pictures.
            seeds: One seed a row; rows with equal seeds and actions are equal.
            poses: world_from_camera of the clip's frames [m], in a world frame with the ground at
                z = 0 and z up; needed when f > 1. A single picture without one is taken to be seen
                from `ASSUMED_HEIGHT_M` above the origin, level, looking along x.

        Raises:
            ValueError: If shapes disagree, pictures have another size, poses are not rigid or a
                camera that should stand above the ground does not.
        """
        clips = self._check_start(images, prompts, intrinsics, seeds, poses)
        b, f = clips.shape[:2]
        if poses is None:
            level = camera_poses(planar_pose(0.0, 0.0, 0.0), CameraRig(z=ASSUMED_HEIGHT_M))
            poses = np.broadcast_to(level, (b, f, 4, 4))
        features, mask = self.text_encoder(list(prompts))
        text = self.network.encode_text(features.to(self._dtype), mask)
        pixels = torch.from_numpy(np.ascontiguousarray(clips)).permute(0, 4, 1, 2, 3)
        latents = self.autoencoder.encode(
            (pixels.to(self._device).float() / 127.5 - 1).to(self._dtype)
        )
        drawn, memory = self.autoencoder.decode_step(latents, None)
        raw_poses = torch.tensor(np.asarray(poses, dtype=np.float64))
        rays = torch.tensor(np.asarray(intrinsics, dtype=np.float64))
        camera, transport = moving_camera(raw_poses, rays, **self._geometry(latents))
        if self.network.config.warp_condition:
            check_camera_height(raw_poses)
            warped = warped_clip(self.autoencoder, drawn.float(), raw_poses, rays)
            camera = replace(camera, warped=warped)
        clean = torch.zeros(latents.shape[0], latents.shape[2], device=self._device)
        unrolled = self.network.unroll(
            latents,
            clean,
            text,
            camera.to(self._device),
            self.network.initial_state(b, latents.shape[-2], latents.shape[-1], self._device),
            transport=transport.to(self._device),
        )
        # The last latent frame's own origin is the pose before it; the first frame's is itself.
        stride = self.autoencoder.config.temporal_stride
        origin = raw_poses[:, max(0, f - 1 - stride)]
        return WorldState(
            network=unrolled.state_after.reanchor(
                (torch.linalg.inv(raw_poses[:, -1]) @ origin).to(self._device)
            ),
            text=text,
            decoder=tuple(memory),
            latent=latents[:, :, -1].float(),
            picture=drawn[:, :, -1].float(),
            last_pose=raw_poses[:, -1],
            intrinsics=rays,
            seeds=torch.tensor(list(seeds), dtype=torch.int64),
            steps=torch.zeros(b, dtype=torch.int64),
        )

    @torch.no_grad()
    def step(
        self, state: WorldState, poses: Float[np.ndarray, "b f 4 4"]
    ) -> tuple[UInt8[np.ndarray, "b f h w 3"], WorldState]:
        """Draw the next chunk of pictures along given camera poses.

        Args:
            state: Left unchanged.
            poses: world_from_camera of the next ``frames_per_step`` raw frames [m], in the same
                world frame as those given to :meth:`start`.

        Returns:
            RGB bytes of those frames and the state after them.

        Raises:
            ValueError: If the shape is wrong or a pose is not rigid and finite.
        """
        expected = (state.batch_size, self.frames_per_step, 4, 4)
        if np.shape(poses) != expected:
            raise ValueError(f"poses have shape {np.shape(poses)}, expected {expected}")
        raw_poses = torch.tensor(check_poses(poses))
        condition, _ = moving_camera(
            raw_poses, state.intrinsics, last_pose=state.last_pose, **self._geometry(state.latent)
        )
        camera = condition.to(self._device)
        if self.network.config.warp_condition:
            check_camera_height(raw_poses)
            warped = warped_latent(
                self.autoencoder,
                state.picture,
                state.last_pose,
                raw_poses,
                state.intrinsics,
                self.network.config.warp_sharpening,
            )
            camera = replace(camera, warped=warped)
        shape = (state.latent.shape[1], self.network.config.chunk_size, *state.latent.shape[-2:])
        sigmas = self.config.sigmas
        noises = [
            row_noise(state.seeds, state.steps, level, shape).to(self._device)
            for level in range(len(sigmas))
        ]
        past = state.network
        x_0 = sample_chunk(self.network, noises, sigmas, state.text, camera, past)
        if self.config.still_way:
            way = (raw_poses[:, -1, :3, 3] - state.last_pose[:, :3, 3]).norm(dim=-1)
            share = (way / self.config.still_way).clamp(max=1.0).to(x_0)
            x_0 = torch.lerp(state.latent[:, :, None], x_0, share.view(-1, 1, 1, 1, 1))
        _, network_state = self.network.step(
            x_0.to(self._dtype),
            torch.zeros(x_0.shape[0], x_0.shape[2], device=self._device),
            state.text,
            camera,
            past,
            update_state=True,
        )
        pixels, memory = self.autoencoder.decode_step(x_0, list(state.decoder))
        moved = torch.linalg.inv(raw_poses[:, -1]) @ state.last_pose
        following = WorldState(
            network=network_state.reanchor(moved.to(self._device)),
            text=state.text,
            decoder=tuple(memory),
            latent=x_0[:, :, -1],
            picture=pixels[:, :, -1].float(),
            last_pose=raw_poses[:, -1],
            intrinsics=state.intrinsics,
            seeds=state.seeds,
            steps=state.steps + 1,
        )
        frames = ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        return frames.permute(0, 2, 3, 4, 1).contiguous().cpu().numpy(), following

    def _geometry(self, latents: Tensor) -> dict[str, Any]:
        rows, columns = latents.shape[-2:]
        return {
            "image_size": (self.height, self.width),
            "grid": (rows, columns),
            "config": self.network.config,
        }

    @property
    def _device(self) -> torch.device:
        return self.autoencoder.latents_mean.device

    @property
    def _dtype(self) -> torch.dtype:
        return self.autoencoder.latents_mean.dtype

    def _check_start(
        self,
        images: np.ndarray,
        prompts: Sequence[str],
        intrinsics: Float[np.ndarray, "b 4"],
        seeds: Sequence[int],
        poses: Float[np.ndarray, "b f 4 4"] | None,
    ) -> UInt8[np.ndarray, "b f h w 3"]:
        if images.dtype != np.uint8 or images.ndim not in (4, 5):
            raise ValueError(
                f"images are {images.dtype} {images.shape}, expected uint8 (b, h, w, 3) or "
                "(b, f, h, w, 3)"
            )
        clips = images[:, None] if images.ndim == 4 else images
        b, f, h, w, _ = clips.shape
        if (h, w) != (self.height, self.width):
            raise ValueError(
                f"pictures are {w}x{h}, expected {self.width}x{self.height}: use "
                "sanawm_gym.camera.fit_image, which keeps the intrinsics right"
            )
        if not len(prompts) == len(seeds) == len(intrinsics) == b:
            raise ValueError(
                f"got {b} images, {len(prompts)} prompts, {len(seeds)} seeds and "
                f"{len(intrinsics)} intrinsics, expected one of each a row"
            )
        if poses is None and f > 1:
            raise ValueError(f"got a clip of {f} frames without poses: pass one pose a frame")
        if poses is not None:
            if np.shape(poses) != (b, f, 4, 4):
                raise ValueError(f"poses have shape {np.shape(poses)}, expected {(b, f, 4, 4)}")
            check_poses(poses)
        for prompt in dict.fromkeys(prompts):
            unknown = self.text_encoder.unknown_words(prompt)
            if unknown:
                warnings.warn(
                    f"this world never learnt the words {unknown}: they change nothing "
                    "that can be relied on",
                    stacklevel=3,
                )
        return clips
