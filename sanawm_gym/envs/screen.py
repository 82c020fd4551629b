"""What `render` returns, and the window of the mode `human`.

`rgb_array_list` follows Gymnasium's meaning of a list mode: all raw frames since the last call of
`render` or the last reset, so nothing is lost whatever the rhythm of the calls.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import UInt8

_SMALLEST_WINDOW = 640
"""Pictures are enlarged by a whole factor until the window is about this wide [px]."""


class Screen:
    """Collects the raw frames of all rows and shows them.

    Memory: in the list mode 16 pictures a second of world and row are kept until they are asked
    for (26 MB for a minute at 128x72); the other modes keep one decision.
    """

    def __init__(self, mode: str | None, num_rows: int, fps: float) -> None:
        """Set the mode; a window opens with the first picture."""
        self.mode = mode
        self._frames: list[list[UInt8[np.ndarray, "h w 3"]]] = [[] for _ in range(num_rows)]
        self._window: Window | None = None
        self._fps = fps

    def restart(self, row: int, picture: UInt8[np.ndarray, "h w 3"]) -> None:
        """Begin an episode with its first picture."""
        self._frames[row] = [picture]

    def extend(
        self, row: int, frames: UInt8[np.ndarray, "f h w 3"], same_step: bool = False
    ) -> None:
        """Add the raw frames of a decision; those of the same step before it are kept."""
        if same_step or self.mode == "rgb_array_list":
            self._frames[row].extend(frames)
        else:
            self._frames[row] = list(frames)

    def show(self) -> None:
        """In the mode `human`, play what is new in the window."""
        if self.mode != "human":
            return
        if self._window is None:
            self._window = Window(self._fps)
        for index in range(max(len(frames) for frames in self._frames)):
            self._window.draw(
                np.stack([frames[min(index, len(frames) - 1)] for frames in self._frames])
            )

    def render(self) -> list[Any] | None:
        """One result a row: newest picture, or list of pictures; None without a render mode."""
        if self.mode == "rgb_array":
            return [frames[-1].copy() for frames in self._frames]
        if self.mode == "rgb_array_list":
            collected = [[picture.copy() for picture in frames] for frames in self._frames]
            self._frames = [[] for _ in self._frames]
            return collected
        return None

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._window is not None:
            self._window.close()
            self._window = None


class Window:
    """A pygame window that plays pictures at the pace of the world."""

    def __init__(self, fps: float) -> None:
        """Load pygame.

        Raises:
            ImportError: If it is not installed, naming the extra.
        """
        try:
            import pygame
        except ImportError as error:
            raise ImportError(
                "render_mode='human' needs pygame; install it with: pip install 'sanawm-gym[viz]'"
            ) from error
        self._pygame: Any = pygame
        pygame.display.init()
        pygame.display.set_caption("SanaWM drive")
        self._clock = pygame.time.Clock()
        self._surface: Any = None
        self._fps = fps

    def draw(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> None:
        """Show one picture of every row, and wait until its time is over."""
        picture = tile(pictures)
        factor = max(1, round(_SMALLEST_WINDOW / picture.shape[1]))
        picture = picture.repeat(factor, axis=0).repeat(factor, axis=1)
        size = (picture.shape[1], picture.shape[0])
        if self._surface is None or self._surface.get_size() != size:
            self._surface = self._pygame.display.set_mode(size)
        self._surface.blit(self._pygame.surfarray.make_surface(picture.swapaxes(0, 1)), (0, 0))
        self._pygame.event.pump()
        self._pygame.display.flip()
        self._clock.tick(self._fps)

    def close(self) -> None:
        """Close the window."""
        self._pygame.display.quit()


def tile(pictures: UInt8[np.ndarray, "b h w 3"]) -> UInt8[np.ndarray, "rows columns 3"]:
    """Pictures side by side in a near-square grid, black where there is none."""
    num, height, width, _ = pictures.shape
    columns = math.ceil(math.sqrt(num))
    rows = math.ceil(num / columns)
    grid = np.zeros((rows * columns, height, width, 3), np.uint8)
    grid[:num] = pictures
    grid = grid.reshape(rows, columns, height, width, 3).swapaxes(1, 2)
    return np.asarray(grid.reshape(rows * height, columns * width, 3))
