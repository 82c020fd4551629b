"""What a video begins with: a picture, its lens, and the place of the camera that took it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from sanawm_gym.camera import Intrinsics
from sanawm_gym.envs.config import DriveConfig
from sanawm_gym.envs.start import Start, resolve_start
from sanawm_gym.worldmodel.contexts import list_contexts, load_context
from sanawm_gym.worldmodel.official.intrinsics import find_lens
from sanawm_gym.worldmodel.official.layout import is_release

from .camera_config import CameraConfig
from .drawing import PathWorld

if TYPE_CHECKING:
    from .job import RenderJob

_MIDDLE = (0.25, 0.75)
"""Where the axis of a lens meets its picture, as a share of width and height."""
FourNumbers = tuple[float, float, float, float]


def beginning(job: RenderJob, world: PathWorld, lens: FourNumbers | None) -> tuple[Start, str]:
    """The start of a video, fit for a world.

    Args:
        job: Names the picture, or leaves the choice of a start context to the seed; released
            weights have no start contexts.
        world: Gives the size of the pictures.
        lens: fx, fy, cx, cy [px] that came with the path; counts where the job says nothing.

    Returns:
        The start, and where its lens is known from.

    Raises:
        ValueError: If there is no such picture or the lens cannot be its own.
    """

    def resolved(drive: DriveConfig) -> Start:
        draw, stride = np.random.default_rng(job.seed), world.frames_per_step
        return resolve_start(drive, draw, width=world.width, height=world.height, stride=stride)

    config, image = job.camera, job.image
    contexts = [] if is_release(job.world) else list_contexts(job.world)
    settings = DriveConfig(world=job.world, start=image, prompt=job.prompt)
    origin = "start context"
    if image is None and contexts:
        image = resolved(settings).name
    if image is not None and image in contexts:
        settings = settings.replace(
            {"start": image, "intrinsics": _lens(config, lens, image, job.world)}
        )
        origin = origin if settings.intrinsics is None else "given"
    elif image is not None and Path(image).is_file():
        settings, origin = _with_picture(settings, config, image, lens)
    elif is_release(job.world):
        raise ValueError(
            f"image: got {image!r}, expected a picture file; released weights have no start "
            "contexts"
        )

    # Twice: the mount that the picture comes with has to be known before a part of it is replaced.
    start = resolved(settings)
    rig = config.mounted(start.rig)
    return (start if rig == start.rig else resolved(settings.replace({"rig": rig}))), origin


def _with_picture(
    settings: DriveConfig, config: CameraConfig, image: str, lens: FourNumbers | None
) -> tuple[DriveConfig, str]:
    """Begin with a file, through the lens that was told, that EXIF tells, or 70 degrees across."""
    try:
        with Image.open(image) as opened:
            picture = ImageOps.exif_transpose(opened)
            pixels = np.array(picture.convert("RGB"))
            given = _told(config, lens, *picture.size)
            known = find_lens(picture, given=given, horizontal_fov_deg=config.fov_deg)
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(
            f"image: cannot read {image} as a picture ({error}); expected jpg, png or webp"
        ) from error
    changes = {"start": pixels, "intrinsics": known.intrinsics}
    return settings.replace(changes), known.origin


def _lens(
    config: CameraConfig, lens: FourNumbers | None, name: str, world: str
) -> Intrinsics | None:
    """The lens that was told for a start context, if any."""
    known = load_context(name, world).intrinsics
    if config.fov_deg is not None:
        return Intrinsics.from_fov(config.fov_deg, known.width, known.height)
    given = _told(config, lens, known.width, known.height)
    return None if given is None else Intrinsics(*given, known.width, known.height).check()


def _told(
    config: CameraConfig, lens: FourNumbers | None, width: int, height: int
) -> FourNumbers | None:
    """The four numbers of a lens that hold for a picture of some size, if any were told.

    Raises:
        ValueError: If they are those of another picture or in another order.
    """
    if config.fov_deg is not None:
        return None
    told = lens if config.intrinsics is None else config.intrinsics
    if told is None:
        return None
    whose = "the file of poses" if config.intrinsics is None else "--intrinsics"
    fx, fy, cx, cy = told
    for name, place, side in (("cx", cx, width), ("cy", cy, height)):
        if not _MIDDLE[0] * side <= place <= _MIDDLE[1] * side:
            raise ValueError(
                f"lens: got {name}={place:g} from {whose} for a picture of {width}x{height}, "
                f"expected about {side / 2:g}; give the lens in pixels of this very picture, or "
                "--fov-deg"
            )
    if not (fy > 0 and 0.8 <= fx / fy <= 1.25):
        raise ValueError(
            f"lens: got fx={fx:g} and fy={fy:g} from {whose}, expected about the same (square "
            "pixels); check the order fx, fy, cx, cy"
        )
    return told
