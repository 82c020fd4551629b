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
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from sanawm_gym.camera import CameraRig, camera_poses
from sanawm_gym.geometry import check_poses, planar_pose
from sanawm_gym.worldmodel.autoencoder import VideoAutoencoder, VideoAutoencoderConfig
from sanawm_gym.worldmodel.backend import check_backend, choose_engine
from sanawm_gym.worldmodel.camera_condition import CameraCondition, moving_camera
from sanawm_gym.worldmodel.config import SanaWMConfig
from sanawm_gym.worldmodel.engine import Engine
from sanawm_gym.worldmodel.folder import load_module, read_config, save_module, write_json
from sanawm_gym.worldmodel.ground_warp import check_camera_height, warped_clip, warped_latent
from sanawm_gym.worldmodel.heads import Heads, Perceived, load_heads, save_heads
from sanawm_gym.worldmodel.model import SanaWM
from sanawm_gym.worldmodel.noise import row_noise
from sanawm_gym.worldmodel.refiner import Refiner
from sanawm_gym.worldmodel.refiner.folder import load_refiner, save_refiner
from sanawm_gym.worldmodel.refiner.stream import begin_refined, step_refined
from sanawm_gym.worldmodel.sampler import Guidance, sample_chunk
from sanawm_gym.worldmodel.source import choose_dtype, find_world
from sanawm_gym.worldmodel.start_check import check_start, warn_of_unknown_words
from sanawm_gym.worldmodel.text import CaptionEncoder, CaptionEncoderConfig
from sanawm_gym.worldmodel.token_ground import token_ground
from sanawm_gym.worldmodel.world_config import WorldConfig
from sanawm_gym.worldmodel.world_state import WorldState

__all__ = ["WorldConfig", "WorldModel"]

ASSUMED_HEIGHT_M = 1.5
"""Camera height of a picture that comes without a pose."""


class WorldModel:
    """A generated world that is driven by camera poses.

    Args:
        config: Picture size, clock and sampler.
        network: Velocity network with chunks of one latent frame.
        autoencoder: Pixels to latents and back.
        text_encoder: Prompts to features.
        heads: Read the state of the road off the network's features, if there are any.
        refiner: Draws what is shown once more; the stream itself goes on with the draft.
        engine: What steps, holding copies of the weights as they were when it was built; None
            builds what is best at the first step.

    Raises:
        ValueError: If the heads are of another network's size.
    """

    def __init__(
        self,
        config: WorldConfig,
        network: SanaWM,
        autoencoder: VideoAutoencoder,
        text_encoder: CaptionEncoder,
        heads: Heads | None = None,
        refiner: Refiner | None = None,
        engine: Engine | None = None,
    ) -> None:
        self.config = config
        self.network = network.eval().requires_grad_(False)
        self.autoencoder = autoencoder.eval().requires_grad_(False)
        self.text_encoder = text_encoder.eval().requires_grad_(False)
        self.heads = None if heads is None else heads.eval().requires_grad_(False)
        self.refiner = None if refiner is None else refiner.eval().requires_grad_(False)
        self._engine = engine
        self.width, self.height, self.fps = config.width, config.height, config.fps
        self.frames_per_step = autoencoder.config.temporal_stride * network.config.chunk_size
        cell = autoencoder.config.spatial_stride
        self._grid = (config.height // cell, config.width // cell)
        if heads is not None:
            heads.config.check_fits(network.config.hidden_size, self._grid)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path = "drive",
        *,
        device: str = "cpu",
        dtype: str = "auto",
        refine: bool = False,
        backend: str = "auto",
    ) -> WorldModel:
        """Load a world.

        Args:
            name_or_path: Name of a bundled world, a folder, or a hub id ``owner/name``.
            device: Torch device.
            dtype: ``float32``, ``bfloat16`` or ``auto``: bfloat16 where the processor multiplies in
                it, float32 elsewhere. Recurrent states are float32 in either case.
            refine: Show what the world's refiner makes of the drawn pictures.
            backend: ``auto``, ``plain``, ``fused`` or ``openvino``; see `worldmodel.backend`.

        Raises:
            ValueError: If there is no such world, its files do not fit their configuration, the
                backend cannot run it, or a refiner is asked for that it has not.
            ModuleNotFoundError: If the backend's package is missing, naming the extra.
        """
        check_backend(backend, device)
        folder = find_world(name_or_path)
        config = read_config(folder / "world.json", WorldConfig)
        network = load_module(folder, "network", SanaWM, SanaWMConfig)
        autoencoder = load_module(folder, "autoencoder", VideoAutoencoder, VideoAutoencoderConfig)
        text_encoder = load_module(folder, "text_encoder", CaptionEncoder, CaptionEncoderConfig)
        heads = load_heads(folder, network)
        refiner = load_refiner(folder, network.config.chunk_size) if refine else None
        precision = choose_dtype(dtype, device)
        chosen = torch.float32 if backend == "openvino" else precision
        network.to(device, chosen)
        autoencoder.to(device, chosen)
        text_encoder.to(device)
        heads = None if heads is None else heads.to(device)
        refiner = None if refiner is None else refiner.to(device, chosen)
        engine = choose_engine(network, autoencoder, backend, precision)
        return cls(config, network, autoencoder, text_encoder, heads, refiner, engine)

    @property
    def engine(self) -> Engine:
        """What steps: the network and the autoencoder in the form of the chosen backend."""
        if self._engine is None:
            self._engine = choose_engine(self.network, self.autoencoder)
        return self._engine

    def save_pretrained(self, path: str | Path) -> None:
        """Write the world into a folder that :meth:`from_pretrained` reads."""
        folder = Path(path)
        save_module(folder, "network", self.network, self.network.config)
        save_module(folder, "autoencoder", self.autoencoder, self.autoencoder.config)
        save_module(folder, "text_encoder", self.text_encoder, self.text_encoder.config)
        save_heads(folder, self.heads)
        save_refiner(folder, self.refiner)
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
        size = (self.height, self.width)
        clips = check_start(images, prompts, intrinsics, seeds, poses, size)
        warn_of_unknown_words(self.text_encoder, prompts)
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
            features=None if self.heads is None else unrolled.features[:, -1],
            refined=begin_refined(self.refiner, latents, features, mask, memory),
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
        camera = self._condition(state, raw_poses)
        network, codec = self.engine.network, self.engine.codec
        shape = (state.latent.shape[1], self.network.config.chunk_size, *state.latent.shape[-2:])
        sigmas = self.config.sigmas
        noises = [
            row_noise(state.seeds, state.steps, level, shape).to(self._device)
            for level in range(len(sigmas))
        ]
        past, share = state.network, None
        guidance = self._guidance(state.batch_size)
        x_0 = sample_chunk(network, noises, sigmas, state.text, camera, past, guidance)
        if self.config.still_way:
            way = (raw_poses[:, -1, :3, 3] - state.last_pose[:, :3, 3]).norm(dim=-1)
            share = (way / self.config.still_way).clamp(max=1.0).to(x_0).view(-1, 1, 1, 1, 1)
            x_0 = torch.lerp(state.latent[:, :, None], x_0, share)
        features, network_state = network.remember(x_0.to(self._dtype), state.text, camera, past)
        pixels, memory = codec.decode_step(x_0, list(state.decoder))
        shown, refined = pixels, None
        if self.refiner is not None:
            shown, refined = step_refined(
                self.refiner,
                codec,
                state.refined,
                x_0,
                clock=(state.seeds, state.steps),
                share=share,
            )
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
            features=None if self.heads is None else features[:, -1],
            refined=refined,
        )
        frames = ((shown.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        return frames.permute(0, 2, 3, 4, 1).contiguous().cpu().numpy(), following

    @torch.no_grad()
    def perceive(self, state: WorldState) -> Perceived:
        """Read what was drawn last: where the lane lies, what drives ahead, and how surely.

        Raises:
            ValueError: If this world has no heads, or drew the state while it had none.
        """
        if self.heads is None or state.features is None:
            lacking = "this world" if self.heads is None else "the world that drew this state"
            raise ValueError(f"{lacking} has no heads: train them with the stage heads")
        cell = self.autoencoder.config.spatial_stride
        ground = token_ground(state.last_pose, state.intrinsics, self._grid, cell)
        return self.heads.read(state.features, ground.to(state.features.device))

    def _guidance(self, num_rows: int) -> Guidance | None:
        if self.config.guidance == 1.0:
            return None
        features, mask = self.text_encoder([""] * num_rows)
        null_text = self.network.encode_text(features.to(self._dtype), mask)
        return Guidance(self.config.guidance, null_text)

    def _condition(self, state: WorldState, raw_poses: Tensor) -> CameraCondition:
        """What the network is told of the next cameras, with the last picture seen from them."""
        condition, _ = moving_camera(
            raw_poses, state.intrinsics, last_pose=state.last_pose, **self._geometry(state.latent)
        )
        camera = condition.to(self._device)
        if not self.network.config.warp_condition:
            return camera
        check_camera_height(raw_poses)
        warped = warped_latent(
            self.engine.codec,
            state.picture,
            state.last_pose,
            raw_poses,
            state.intrinsics,
            self.network.config.warp_sharpening,
        )
        return replace(camera, warped=warped)

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
