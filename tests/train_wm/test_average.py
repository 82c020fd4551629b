"""The mean of networks."""

from pathlib import Path

import pytest
import torch

from sanawm_gym.train_wm.average_stage import AverageStageConfig, run_average_stage
from sanawm_gym.train_wm.weights import load_world_weights, make_weights
from tests.train_wm.conftest import TINY_NETWORK


def network(folder: Path, seed: int, captions: tuple[str, ...] = ("a road", "a street")) -> Path:
    torch.manual_seed(seed)
    make_weights(TINY_NETWORK, captions, None).save(folder)
    return folder


def test_the_average_has_the_mean_of_every_weight(tmp_path: Path) -> None:
    folders = tuple(network(tmp_path / str(seed), seed) for seed in range(3))
    run_average_stage(AverageStageConfig(networks=folders, out=tmp_path / "mean"))
    got = load_world_weights(tmp_path / "mean").state_dict()
    parts = [load_world_weights(folder).state_dict() for folder in folders]
    for name, value in got.items():
        wanted = torch.stack([part[name] for part in parts]).double().mean(dim=0)
        torch.testing.assert_close(value.double(), wanted, atol=1e-6, rtol=1e-5)
    assert any(not torch.equal(got[name], parts[0][name]) for name in got)


def test_networks_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    first, other = network(tmp_path / "a", 0), network(tmp_path / "b", 0, ("a field",))
    with pytest.raises(ValueError, match="vocabulary"):
        run_average_stage(AverageStageConfig(networks=(first, other), out=tmp_path / "mean"))
    assert not (tmp_path / "mean").exists()
    with pytest.raises(ValueError, match="at least 2"):
        AverageStageConfig(networks=(first,), out=tmp_path / "mean")
    with pytest.raises(ValueError, match="one of the networks"):
        AverageStageConfig(networks=(first, other), out=first)
