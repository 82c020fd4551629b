"""The released SANA-WM as a world to drive in: one decision is a chunk of three latents.

Its stream begins from one picture; of a start clip the last picture is taken. The first chunk has
that picture's own latent in front of its three, so a stream that has not been stepped yet cannot
share a forward pass with one that has. Environments mix both whenever one row is reset before the
others; here they are told apart, and drawn in two passes for that one decision.

Axes: b rows, f raw frames, h and w of the picture, c y x latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from sanawm_gym.worldmodel.official import OfficialWorld
from sanawm_gym.worldmodel.official.state import OfficialState


@dataclass(frozen=True, kw_only=True, eq=False)
class ReleasedState:
    """What a released world remembers of b drives: a value, as `WorldState`.

    Attributes:
        parts: Streams that can be stepped together: those that begin, those under way.
        places: Part and row in it of every drive.
    """

    parts: tuple[OfficialState, ...]
    places: tuple[tuple[int, int], ...]

    @property
    def batch_size(self) -> int:
        """Rows b."""
        return len(self.places)

    @property
    def num_bytes(self) -> int:
        """Size of all tensors [bytes]."""
        return sum(part.num_bytes for part in self.parts)

    @property
    def latent(self) -> Float[Tensor, "b c y x"]:
        """Newest latent frame of every row."""
        return torch.stack([self.parts[part].latent[row] for part, row in self.places])

    def select(self, indices: Sequence[int]) -> ReleasedState:
        """Copy rows; a row named twice is a fork."""
        return _gathered([self._source(row) for row in indices])

    @staticmethod
    def concat(states: Sequence[ReleasedState]) -> ReleasedState:
        """Join the rows of several states, in order."""
        rows = [state._source(row) for state in states for row in range(state.batch_size)]
        return _gathered(rows)

    def _source(self, row: int) -> tuple[OfficialState, int]:
        part, place = self.places[row]
        return self.parts[part], place


def _gathered(sources: Sequence[tuple[OfficialState, int]]) -> ReleasedState:
    """Rows of several streams, parted by whether they have begun."""
    parts: list[OfficialState] = []
    places: dict[int, tuple[int, int]] = {}
    for begun in (False, True):
        wanted = [i for i, (state, row) in enumerate(sources) if (state.steps[row] > 0) == begun]
        taken: list[OfficialState] = []
        while wanted:
            state = sources[wanted[0]][0]
            own = [i for i in wanted if sources[i][0] is state]
            wanted = [i for i in wanted if sources[i][0] is not state]
            first = sum(other.batch_size for other in taken)
            places.update({i: (len(parts), first + k) for k, i in enumerate(own)})
            rows = [sources[i][1] for i in own]
            taken.append(state if rows == list(range(state.batch_size)) else state.select(rows))
        if taken:
            parts.append(taken[0] if len(taken) == 1 else OfficialState.concat(taken))
    return ReleasedState(parts=tuple(parts), places=tuple(places[i] for i in range(len(sources))))


class ReleasedWorld:
    """A released streaming network, as environments want a world to be.

    Args:
        world: Draws.

    Raises:
        ValueError: If its network draws whole clips, which cannot be driven.
    """

    heads = None
    """It does not read its pictures."""

    def __init__(self, world: OfficialWorld) -> None:
        if world.sampling.mode != "streaming":
            raise ValueError(
                f"world: got a released network that is sampled {world.sampling.mode}, which draws "
                "whole clips, expected a streaming one (SANA-WM_streaming): a drive is decided "
                "chunk by chunk"
            )
        self.official = world
        self.width, self.height, self.fps = world.width, world.height, world.fps
        self.frames_per_step = world.frames_per_step
        cell = world.parts.autoencoder.spatial_stride
        self.latent_shape = (
            world.parts.autoencoder.channels, world.height // cell, world.width // cell
        )  # fmt: skip

    def start(
        self,
        images: UInt8[np.ndarray, "b f h w 3"],
        *,
        prompts: Sequence[str],
        intrinsics: Float[np.ndarray, "b 4"],
        seeds: Sequence[int],
        poses: Float[np.ndarray, "b f 4 4"],
    ) -> ReleasedState:
        """Begin from the last picture of every clip; see `OfficialWorld.start`."""
        begun = self.official.start(
            images, prompts=prompts, intrinsics=intrinsics, seeds=seeds, poses=poses
        )
        return _gathered([(begun, row) for row in range(begun.batch_size)])

    def step(
        self, state: ReleasedState, poses: Float[np.ndarray, "b f 4 4"]
    ) -> tuple[UInt8[np.ndarray, "b f h w 3"], ReleasedState]:
        """Draw the next chunk of every row; see `OfficialWorld.step`."""
        shape = (state.batch_size, self.frames_per_step, self.height, self.width, 3)
        frames = np.empty(shape, dtype=np.uint8)
        sources: list[tuple[OfficialState, int]] = [(part, 0) for part in state.parts[:1]]
        sources *= state.batch_size
        for number, part in enumerate(state.parts):
            # Rows of a part in its own order: `places` may name them in any other.
            rows = sorted(
                (row for row in range(state.batch_size) if state.places[row][0] == number),
                key=lambda row: state.places[row][1],
            )
            frames[rows], after = self.official.step(part, np.asarray(poses)[rows])
            for place, row in enumerate(rows):
                sources[row] = (after, place)
        return frames, _gathered(sources)
