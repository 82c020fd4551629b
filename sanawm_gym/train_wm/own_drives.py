"""What the self-forcing stage keeps of the network's own drives, and what it trains beside it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sanawm_gym.train_wm.critic import Critic
from sanawm_gym.train_wm.weights import WorldWeights
from sanawm_gym.worldmodel.state import SanaWMState


@dataclass(frozen=True)
class OwnDrive:
    """Where a drive of the network's own has got to."""

    network: SanaWMState
    """State of one row, in the origin of the last latent frame."""
    decoder: list[Tensor]
    """Memory of the decoder."""
    picture: Float[Tensor, "1 3 h w"]
    """Last picture, in [-1, 1]."""
    age: int
    """Pieces drawn since the drive began."""


class SelfForcingWeights(WorldWeights):
    """Network and text encoder, and the critic that is thrown away afterwards."""

    def __init__(self, base: WorldWeights, num_judged: int, caption_critic: bool) -> None:
        super().__init__(base.network, base.text_encoder)
        channels = base.network.config.caption_channels if caption_critic else 0
        self.critic = Critic(num_judged, caption_channels=channels)

    @torch.no_grad()
    def asked(self, captions: list[str]) -> Float[Tensor, "b e"]:
        """Mean features of captions, for the critic."""
        features, mask = self.text_encoder(captions)
        counted = mask[..., None].to(features)
        mean: Tensor = (features * counted).sum(dim=1) / counted.sum(dim=1)
        return mean
