"""The features of a driver where SB3's policies want theirs from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor

from sanawm_gym.agents.features import (
    ALONE,
    DriveFeatures,
    FeaturesConfig,
    entries_of,
    num_numbers,
    scales_of,
)


class SB3Features(BaseFeaturesExtractor):
    """:class:`~sanawm_gym.agents.features.DriveFeatures` as a features extractor of SB3.

    Policies must be made with `normalize_images=False`: evening out is done here.

    Args:
        observation_space: Of the environment as SB3 sees it.
        config: Sizes.
        names: Parts of the observation that are read; None reads all.
        with_numbers: Whether the numbers that are read follow the features, as they are.
    """

    def __init__(
        self,
        observation_space: spaces.Space[object],
        config: FeaturesConfig | None = None,
        names: Sequence[str] | None = None,
        with_numbers: bool = False,
    ) -> None:
        config, entries = config or FeaturesConfig(), entries_of(observation_space)
        if names is not None:
            entries = {name: entry for name, entry in entries.items() if name in names}
        numbers = num_numbers(entries) if with_numbers else 0
        super().__init__(observation_space, config.features + numbers)
        self._with_numbers = numbers > 0
        self.network = DriveFeatures(config, entries, scales_of(observation_space))

    def forward(self, observations: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Features of every row, then its numbers if they are wanted."""
        parts = {ALONE: observations} if isinstance(observations, Tensor) else observations
        features: Tensor = self.network(parts)
        if not self._with_numbers:
            return features
        return torch.cat([features, self.network.numbers(parts)], dim=1)
