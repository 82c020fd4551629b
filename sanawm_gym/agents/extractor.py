"""The features of a driver where SB3's policies want theirs from."""

from __future__ import annotations

from collections.abc import Mapping

from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor

from sanawm_gym.agents.features import (
    ALONE,
    DriveFeatures,
    FeaturesConfig,
    entries_of,
    scales_of,
)


class SB3Features(BaseFeaturesExtractor):
    """:class:`~sanawm_gym.agents.features.DriveFeatures` as a features extractor of SB3.

    Policies must be made with `normalize_images=False`: evening out is done here.

    Args:
        observation_space: Of the environment as SB3 sees it.
        config: Sizes.
    """

    def __init__(
        self, observation_space: spaces.Space[object], config: FeaturesConfig | None = None
    ) -> None:
        config = config or FeaturesConfig()
        super().__init__(observation_space, config.features)
        self.network = DriveFeatures(
            config, entries_of(observation_space), scales_of(observation_space)
        )

    def forward(self, observations: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Features of every row."""
        parts = {ALONE: observations} if isinstance(observations, Tensor) else observations
        features: Tensor = self.network(parts)
        return features
