"""Small reference worlds."""

import pytest

from sanawm_gym.envs.reference.road import Road
from sanawm_gym.envs.reference.scene import SceneConfig


@pytest.fixture
def scene() -> SceneConfig:
    """A plain road in clear weather: two lanes, one each way, with bends."""
    return SceneConfig(seed=3, num_vehicles=0, trees=0.0, buildings=0.0, furniture=0.1)


@pytest.fixture
def road(scene: SceneConfig) -> Road:
    """Its first 600 m."""
    return Road(scene, 600.0)
