"""What a stream of the released network remembers: a value, as that of the project's own worlds.

Unlike there the origin stays where the drive began, as the network was trained and is released,
until the camera is far from it (`reanchor`), and frames keep their number for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sanawm_gym.worldmodel.cross_attention import TextContext
from sanawm_gym.worldmodel.refiner import RefinerState
from sanawm_gym.worldmodel.state import SanaWMState


@dataclass(frozen=True, kw_only=True)
class OfficialState:
    """Memory of b streams.

    Attributes:
        network: Recurrent states, convolution tails and attention windows.
        text: Encoded prompts.
        decoder: What the decoder needs of the past; empty before the first step.
        first: Latent of the picture the stream began with.
        latent: Newest latent frame, float32.
        origin: world_from_camera in which all cameras are told [m], float64.
        begin: world_from_camera of the first picture [m], float64.
        last_pose: world_from_camera of the newest picture [m], float64.
        sink: Where the first picture is told to stand in the origin [m], float64.
        intrinsics: fx, fy, cx, cy in pixels, float64.
        seeds: Seed of every row's noise.
        steps: Steps taken; 0 in all rows or in none, since the first chunk is longer.
        refined: Memory of the refiner, if the world has one.
        null_network: As `network`, of the same stream under the negative prompt, where there is
            guidance.
        null_text: Encoded negative prompts, where there is guidance.
    """

    network: SanaWMState
    text: TextContext
    decoder: tuple[Tensor, ...]
    first: Float[Tensor, "b c 1 y x"]
    latent: Float[Tensor, "b c y x"]
    origin: Float[Tensor, "b 4 4"]
    begin: Float[Tensor, "b 4 4"]
    last_pose: Float[Tensor, "b 4 4"]
    sink: Float[Tensor, "b 4 4"]
    intrinsics: Float[Tensor, "b 4"]
    seeds: Int[Tensor, " b"]
    steps: Int[Tensor, " b"]
    refined: RefinerState | None = None
    null_network: SanaWMState | None = None
    null_text: TextContext | None = None

    @property
    def batch_size(self) -> int:
        """Rows b."""
        return self.seeds.shape[0]

    @property
    def num_bytes(self) -> int:
        """Size of all tensors [bytes]; it stops growing once the attention windows are full."""
        poses = (self.origin, self.begin, self.last_pose, self.sink)
        own = (*self.decoder, self.first, self.latent, *poses, self.intrinsics)
        parts = [*own, *self.text.tensors().values()]
        if self.null_network is not None and self.null_text is not None:
            parts += [*self.null_network.tensors().values(), *self.null_text.tensors().values()]
        if self.refined is not None:
            parts += self.refined.tensors().values()
        return self.network.num_bytes + sum(t.numel() * t.element_size() for t in parts)

    def select(self, indices: Sequence[int]) -> OfficialState:
        """Copy rows; a row named twice is a fork."""
        rows = torch.as_tensor(list(indices), dtype=torch.int64)

        def pick(tensor: Tensor) -> Tensor:
            return tensor.index_select(0, rows.to(tensor.device))

        return OfficialState(
            network=self.network.select(indices),
            text=self.text.select(indices),
            decoder=tuple(pick(t) for t in self.decoder),
            first=pick(self.first),
            latent=pick(self.latent),
            origin=pick(self.origin),
            begin=pick(self.begin),
            last_pose=pick(self.last_pose),
            sink=pick(self.sink),
            intrinsics=pick(self.intrinsics),
            seeds=pick(self.seeds),
            steps=pick(self.steps),
            refined=None if self.refined is None else self.refined.select(indices),
            null_network=None if self.null_network is None else self.null_network.select(indices),
            null_text=None if self.null_text is None else self.null_text.select(indices),
        )

    @staticmethod
    def concat(states: Sequence[OfficialState]) -> OfficialState:
        """Join the rows of several states, in order.

        Raises:
            ValueError: If there is none, or only some of them have begun.
        """
        if not states:
            raise ValueError("got no states, expected at least one")
        steps = torch.cat([state.steps for state in states])
        if bool((steps > 0).any()) and not bool((steps > 0).all()):
            raise ValueError(
                f"got states after {sorted(set(steps.tolist()))} steps, expected all of them or "
                "none to have begun: the first chunk of a stream is longer than the others"
            )
        memories = [state.refined for state in states if state.refined is not None]
        nulls = [state.null_network for state in states if state.null_network is not None]
        null_texts = [state.null_text for state in states if state.null_text is not None]
        return OfficialState(
            network=SanaWMState.concat([state.network for state in states]),
            text=TextContext.concat([state.text for state in states]),
            decoder=tuple(
                torch.cat(parts) for parts in zip(*(s.decoder for s in states), strict=True)
            ),
            first=torch.cat([state.first for state in states]),
            latent=torch.cat([state.latent for state in states]),
            origin=torch.cat([state.origin for state in states]),
            begin=torch.cat([state.begin for state in states]),
            last_pose=torch.cat([state.last_pose for state in states]),
            sink=torch.cat([state.sink for state in states]),
            intrinsics=torch.cat([state.intrinsics for state in states]),
            seeds=torch.cat([state.seeds for state in states]),
            steps=steps,
            refined=RefinerState.concat(memories) if memories else None,
            null_network=SanaWMState.concat(nulls) if nulls else None,
            null_text=TextContext.concat(null_texts) if null_texts else None,
        )
