"""The released SANA-WM as a world: whole clips along a camera path, or chunk after chunk.

A class of its own beside `WorldModel`, with the same `start` and `step`. What differs is not the
network, which is the same code at full size, but everything around it: LTX-2's autoencoder and
Gemma in place of small learnt ones, chunks of three latents (24 pictures, 1.5 s) in place of one,
an origin that stays where the drive began, and two modes that draw a clip as a whole.

Axes: b rows, f pictures, h rows and w columns of a picture, c t y x latents.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from sanawm_gym.geometry import check_poses
from sanawm_gym.worldmodel.camera_condition import clip_camera
from sanawm_gym.worldmodel.refiner.sampler import OnBlock, refine_at_once, refine_clip
from sanawm_gym.worldmodel.start_check import check_start
from sanawm_gym.worldmodel.ucpe import invert_rigid

from .intrinsics import check_lenses
from .offload import present
from .opening import Opening
from .overlap import draw_ahead
from .parts import OfficialConfig, OfficialParts, load_parts
from .samplers import OnStep, draw_clip
from .sampling import SamplingConfig
from .speed import choose_drawing
from .state import OfficialState
from .stream import Screen, Stream

REFINER_SEED = 42
"""Of the refiner's noise over a clip, as released."""


class OfficialWorld:
    """A released world.

    Args:
        parts: Its networks.
        sampling: How clips are drawn.
        config: Size and clock of the pictures, and how they are refined.

    Raises:
        ValueError: If parts do not fit each other, or refining is asked for without a refiner.
    """

    def __init__(
        self,
        parts: OfficialParts,
        sampling: SamplingConfig,
        config: OfficialConfig = OfficialConfig(),  # noqa: B008 frozen
    ) -> None:
        cell, stride = parts.autoencoder.spatial_stride, parts.autoencoder.temporal_stride
        height, width, refine = config.height, config.width, config.refine
        if height % cell or width % cell:
            raise ValueError(f"got pictures of {width}x{height}, expected multiples of {cell} px")
        if stride != parts.network.config.temporal_stride:
            raise ValueError(
                f"got an autoencoder of {stride} pictures a latent for a network of "
                f"{parts.network.config.temporal_stride}; take both from one release"
            )
        known = parts.network.config
        for name, has, needs in (
            ("an autoencoder", parts.autoencoder.channels, known.in_channels),
            ("a text encoder", parts.text.channels, known.caption_channels),
        ):
            if has != needs:
                raise ValueError(
                    f"got {name} of {has} channels for a network that reads {needs}; take both "
                    "from one release"
                )
        if refine != "no" and (parts.refiner is None or parts.refiner_text is None):
            raise ValueError(f"got refine={refine!r} without a refiner and its text")
        if refine == "at_once" and sampling.mode == "streaming":
            raise ValueError("got refine='at_once' for a stream, expected 'blocks' or 'no'")
        self.parts, self.sampling, self.config = parts, sampling, config
        self.height, self.width, self.fps = height, width, config.fps
        screen = Screen(picture=(height, width), grid=(height // cell, width // cell))
        draw = choose_drawing(parts, sampling, config)
        self.stream = Stream(parts=parts, sampling=sampling, screen=screen, draw=draw)
        self.frames_per_step = self.stream.frames_per_chunk

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        config: OfficialConfig = OfficialConfig(),  # noqa: B008 frozen
    ) -> OfficialWorld:
        """Load a release.

        Args:
            name_or_path: A folder in one of the published layouts (`layout`), or a hub id.
            config: Device, precision, where other parts lie, what is drawn.

        Raises:
            ValueError: If a part is missing or does not fit its configuration, listing why.
            ModuleNotFoundError: Without diffusers and transformers (extra `full`).
        """
        parts, sampling = load_parts(name_or_path, config)
        return cls(parts, sampling, config)

    @torch.no_grad()
    def generate(
        self,
        opening: Opening,
        poses: Float[np.ndarray, "b f 4 4"],
        on_step: OnStep | None = None,
    ) -> UInt8[np.ndarray, "b f2 h w 3"]:
        """Draw clips along camera paths.

        Args:
            opening: First pictures, prompts, lenses, seeds.
            poses: world_from_camera of all pictures [m], the first one's included; f is a multiple
                of the temporal stride plus one, in streaming of `frames_per_step` plus one.
            on_step: Called after every step of the draft.

        Returns:
            All pictures, the given one as the autoencoder renders it. Refined clips lack it: the
            refiner's sink is not shown.

        Raises:
            ValueError: If shapes disagree, pictures have another size or poses are not rigid.
        """
        latents = self.draw_latents(opening, poses, on_step)
        if self.config.refine == "no":
            return as_bytes(self.parts.autoencoder.decode(latents))
        refined = self.refine_latents(latents, opening.prompts)
        return as_bytes(self.parts.autoencoder.decode(refined)[:, :, 1:])

    @torch.no_grad()
    def draw_latents(
        self,
        opening: Opening,
        poses: Float[np.ndarray, "b f 4 4"],
        on_step: OnStep | None = None,
    ) -> Float[Tensor, "b c t y x"]:
        """Latents of clips before refinement; arguments as :meth:`generate`."""
        raw = self._path(poses, len(opening.seeds))
        if opening.zooms:
            lenses = (*raw.shape[:2], 4)
            check_lenses(opening.intrinsics, lenses, self.stream.screen.picture)
        first = self._first(opening)
        if self.sampling.mode == "streaming":
            state = self._begin(first, opening, raw[:, 0])
            zoom = opening.rays[:, 1:] if opening.zooms else None
            return self.stream.whole(state, raw[:, 1:], on_step, zoom)
        screen = self.stream.screen
        camera = clip_camera(
            invert_rigid(raw[:, :1]) @ raw,
            opening.rays,
            image_size=screen.picture,
            grid=screen.grid,
            config=self.parts.network.config,
        ).to(self.parts.device)
        shape = (first.shape[1], camera.intrinsics.shape[1], *screen.grid)
        noise = _clip_noise(opening.seeds, shape, self.parts.device)
        guided = self.parts.guided(opening.prompts, self.sampling)
        return draw_clip(self.parts.network, first, noise, guided, camera, self.sampling, on_step)

    @torch.no_grad()
    def refine_latents(
        self,
        latents: Float[Tensor, "b c t y x"],
        prompts: Sequence[str],
        on_block: OnBlock | None = None,
    ) -> Float[Tensor, "b c t y x"]:
        """What the refiner makes of a clip; the first frame stays as it is.

        Args:
            latents: Of the draft.
            prompts: One a row.
            on_block: Called after every block; a clip that is refined at once has none.
        """
        refiner, features, mask = self.parts.refiner_features(prompts)
        shape = tuple(latents.shape[1:])
        noise = _clip_noise([REFINER_SEED] * len(latents), shape, self.parts.device)
        with present(refiner, self.parts.device):
            if self.config.refine == "at_once":
                return refine_at_once(refiner, latents, noise, features, mask)
            return refine_clip(refiner, latents, noise, features, mask, on_block=on_block)

    @torch.no_grad()
    def start(
        self,
        images: UInt8[np.ndarray, "b h w 3"] | UInt8[np.ndarray, "b f h w 3"],
        *,
        prompts: Sequence[str],
        intrinsics: Float[np.ndarray, "b 4"],
        seeds: Sequence[int],
        poses: Float[np.ndarray, "b f 4 4"] | None = None,
    ) -> OfficialState:
        """Begin streams from one picture each; arguments as `WorldModel.start` takes them.

        Args:
            images: RGB bytes of the world's size; of a clip, the last picture is taken.
            prompts: One a row.
            intrinsics: fx, fy, cx, cy of every row in pixels of the world's pictures.
            seeds: One a row.
            poses: world_from_camera of the pictures [m]; the identity if not given.

        Raises:
            ValueError: If the network draws whole clips, shapes disagree or a pose is not rigid.
        """
        if self.sampling.mode != "streaming":
            raise ValueError(
                f"got a network that is sampled {self.sampling.mode}, expected a streaming one; "
                "use generate, which draws a whole clip"
            )
        if images.ndim == 5:
            images, poses = images[:, -1], None if poses is None else poses[:, -1:]
        opening = Opening(images=images, prompts=prompts, intrinsics=intrinsics, seeds=seeds)
        given = np.eye(4)[None, None].repeat(len(seeds), axis=0) if poses is None else poses
        origin = _exact_poses(given, (len(seeds), 1, 4, 4))[:, 0]
        state = self._begin(self._first(opening), opening, origin)
        if self.config.refine == "no":
            return state
        refiner, features, mask = self.parts.refiner_features(opening.prompts)
        with present(refiner, self.parts.device):
            return replace(state, refined=refiner.start(state.first, features, mask))

    @torch.no_grad()
    def step(
        self,
        state: OfficialState,
        poses: Float[np.ndarray, "b f 4 4"],
        intrinsics: Float[np.ndarray, "b f 4"] | None = None,
    ) -> tuple[UInt8[np.ndarray, "b f h w 3"], OfficialState]:
        """Draw the next chunk along given camera poses.

        Args:
            state: Left unchanged.
            poses: world_from_camera of the next ``frames_per_step`` pictures [m], in the world
                frame of :meth:`start`.
            intrinsics: fx, fy, cx, cy of these pictures [px], where the lens zooms; None stays
                with the last one.

        Returns:
            RGB bytes of those pictures and the state after them.

        Raises:
            ValueError: If the shape is wrong or a pose is not rigid and finite.
        """
        expected = (state.batch_size, self.frames_per_step, 4, 4)
        zoom = None
        if intrinsics is not None:
            shape = (*expected[:2], 4)
            zoom = torch.tensor(check_lenses(intrinsics, shape, self.stream.screen.picture))
        draft, following = self.stream.next_chunk(state, _exact_poses(poses, expected), zoom)
        shown, refined = self.stream.refine(draft, (state.seeds, state.steps), state.refined)
        pixels, decoder = self.stream.show(shown, state.decoder)
        return as_bytes(pixels), replace(following, decoder=decoder, refined=refined)

    @torch.no_grad()
    def steps(
        self, state: OfficialState, poses: Float[np.ndarray, "b f 4 4"]
    ) -> Iterator[tuple[UInt8[np.ndarray, "b f2 h w 3"], OfficialState]]:
        """Draw several chunks as :meth:`step` would one after the other, on a GPU overlapping.

        While a chunk is refined and decoded the draft of the next ones is under way; the pictures
        are the same.

        Args:
            state: Left unchanged.
            poses: world_from_camera of all pictures [m], a multiple of ``frames_per_step``.

        Yields:
            What :meth:`step` returns, chunk by chunk.

        Raises:
            ValueError: If the shape is wrong or a pose is not rigid and finite.
        """
        num_frames = np.shape(poses)[1] if np.ndim(poses) == 4 else 0
        if not num_frames or num_frames % self.frames_per_step:
            raise ValueError(
                f"got {num_frames} poses a row, expected a multiple of {self.frames_per_step}"
            )
        exact = _exact_poses(poses, (state.batch_size, num_frames, 4, 4))
        for pixels, following in draw_ahead(self.stream, state, exact):
            yield as_bytes(pixels), following

    def _path(self, poses: np.ndarray, num_rows: int) -> Float[Tensor, "b f 4 4"]:
        """Camera paths of whole clips, or say what is wrong with them."""
        stride = self.parts.network.config.temporal_stride
        if self.sampling.mode == "streaming":
            stride = self.frames_per_step
        num_frames = np.shape(poses)[1] if np.ndim(poses) == 4 else 0
        if num_frames <= stride or (num_frames - 1) % stride:
            raise ValueError(
                f"got {num_frames} poses a row, expected a multiple of {stride} plus one in shape "
                "(b, f, 4, 4): after the first, pictures come in groups; cut the path or let the "
                "camera stand at its end"
            )
        return _exact_poses(poses, (num_rows, num_frames, 4, 4))

    def _first(self, opening: Opening) -> Tensor:
        if np.ndim(opening.images) != 4:
            raise ValueError(
                f"images have shape {np.shape(opening.images)}, expected one picture a row, (b, h, "
                "w, 3): this network begins from a picture, not from a clip"
            )
        clips = check_start(
            opening.images,
            opening.prompts,
            opening.rays[:, 0].numpy() if opening.zooms else opening.intrinsics,
            opening.seeds,
            None,
            self.stream.screen.picture,
        )
        return self.parts.first_latent(clips[:, 0])

    def _begin(self, first: Tensor, opening: Opening, origin: Tensor) -> OfficialState:
        rays = opening.rays[:, 0] if opening.zooms else opening.rays
        return self.stream.begin(first, opening.prompts, rays, opening.seeds, origin)


def _exact_poses(poses: np.ndarray, expected: tuple[int, ...]) -> Float[Tensor, "b f 4 4"]:
    """Poses in float64, or say what is wrong with them."""
    if np.shape(poses) != expected:
        raise ValueError(f"poses have shape {np.shape(poses)}, expected {expected}")
    return torch.tensor(check_poses(np.asarray(poses, dtype=np.float64)))


def _clip_noise(
    seeds: Sequence[int], shape: tuple[int, ...], device: torch.device
) -> Float[Tensor, "b c t y x"]:
    """Noise of whole clips, drawn on the CPU so that every device sees the same."""
    rows = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows).to(device)


def as_bytes(pictures: Float[Tensor, "b 3 f h w"]) -> UInt8[np.ndarray, "b f h w 3"]:
    """RGB bytes of pictures in [-1, 1]."""
    frames = ((pictures.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return frames.permute(0, 2, 3, 4, 1).contiguous().cpu().numpy()
