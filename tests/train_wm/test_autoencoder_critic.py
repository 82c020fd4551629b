"""The adversarial term of the stage ``vae``: off by default, late, resumed exactly, left behind."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sanawm_gym.train_wm.autoencoder_stage import (
    AutoencoderObjective,
    AutoencoderStageConfig,
    run_autoencoder_stage,
)
from sanawm_gym.train_wm.trainer import TrainerConfig
from tests.train_wm.conftest import TINY_AUTOENCODER


def stage(recording: Path, out: Path, steps: int = 1, **changes: object) -> AutoencoderStageConfig:
    settings: dict[str, object] = {"adversarial_weight": 0.1, "adversarial_start": 1, **changes}
    return AutoencoderStageConfig(
        data=recording,
        trainer=TrainerConfig(
            out=out, steps=steps, warmup=1, save_every=2, sample_every=0, schedule="constant"
        ),
        model=TINY_AUTOENCODER,
        clip_frames=5,
        **settings,  # type: ignore[arg-type]
    )


def test_the_critic_begins_to_learn_and_to_be_heard_at_its_step(
    recording: Path, tmp_path: Path
) -> None:
    gradients = []
    for weight in (0.0, 0.1):
        torch.manual_seed(0)
        config = stage(recording, tmp_path, adversarial_weight=weight)
        objective = AutoencoderObjective(config, torch.device("cpu"))
        for step in (0, 1):
            objective.zero_grad()
            loss, metrics = objective(objective.batch(step, 0, 1))
            loss.backward()
            critic = [p for n, p in objective.trained().named_parameters() if "critic." in n]
            assert ("critic" in metrics) == (weight > 0 and step == 1)
            assert all((p.grad is None) != ("critic" in metrics) for p in critic)
            first = next(objective.autoencoder.parameters()).grad
            assert first is not None
            gradients.append(first.clone())
    torch.testing.assert_close(gradients[0], gradients[2], rtol=0, atol=0)
    assert not torch.allclose(gradients[1], gradients[3])


def test_a_judged_run_resumes_exactly_and_leaves_its_critic_behind(
    recording: Path, tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run_autoencoder_stage(stage(recording, whole, 4, critic_rate=3.0))
    for steps in (2, 4):
        run_autoencoder_stage(stage(recording, parts, steps, critic_rate=3.0))
    name = "autoencoder.safetensors"
    assert (whole / name).read_bytes() == (parts / name).read_bytes()
    assert not [key for key in load_file(whole / name) if "critic" in key]
    kept, again = (
        torch.load(out / "checkpoint.pt", weights_only=True)["model"] for out in (whole, parts)
    )
    critic = [key for key in kept if key.startswith("critic.")]
    assert critic
    for key in critic:
        assert torch.equal(kept[key], again[key]), key


@pytest.mark.parametrize(
    "changes",
    [{"adversarial_weight": -1.0}, {"critic_rate": 0.0}, {"clip_frames": 1}],
)
def test_an_adversary_that_cannot_judge_is_refused(
    recording: Path, tmp_path: Path, changes: dict[str, float]
) -> None:
    settings: dict[str, object] = {"adversarial_weight": 0.1, "clip_frames": 5, **changes}
    with pytest.raises(ValueError, match="expected"):
        AutoencoderStageConfig(
            data=recording,
            trainer=TrainerConfig(out=tmp_path),
            model=TINY_AUTOENCODER,
            **settings,  # type: ignore[arg-type]
        )
