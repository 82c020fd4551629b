"""Which way drawings are moved, against cases that can be worked out by hand."""

import pytest
import torch
from torch import Tensor

from sanawm_gym.train_wm.distribution_matching import (
    matching_direction,
    matching_loss,
    score_sigma,
)
from sanawm_gym.worldmodel.flow import add_noise

ONES = torch.ones(1, 1, 1, 1, 1)


def row(*values: float) -> Tensor:
    """One clip of one-cell latent frames."""
    return torch.tensor(values)[None, None, :, None, None]


def test_the_direction_is_fake_less_real_over_the_mean_gap_of_the_drawn_frames() -> None:
    x, real, fake = row(9.0, 1.0, 3.0), row(0.0, 2.0, 6.0), row(5.0, 2.5, 4.0)
    is_target = torch.tensor([[0.0, 1.0, 1.0]])
    found = matching_direction(x, real, fake, is_target, ONES)
    # mean(|1 - 2|, |3 - 6|) = 2; the first frame is given and counts nowhere.
    assert torch.equal(found, row(0.0, 0.25, -1.0))


def test_each_clip_has_a_mean_gap_of_its_own() -> None:
    x, real = torch.zeros(2, 1, 2, 1, 1), torch.ones(2, 1, 2, 1, 1)
    real[1] *= 10
    found = matching_direction(x, real, real + 1.0, torch.ones(2, 2), ONES)
    assert torch.allclose(found[0], torch.tensor(1.0))
    assert torch.allclose(found[1], torch.tensor(0.1))


def test_the_gradient_of_the_loss_is_the_direction_over_the_number_of_drawn_values() -> None:
    generator = torch.Generator().manual_seed(0)
    x, real, fake = torch.randn(3, 2, 4, 5, 3, 2, generator=generator)
    is_target = torch.ones(2, 5)
    is_target[:, 0] = 0.0
    x.requires_grad_()
    weights = torch.rand(1, 4, 1, 1, 1, generator=generator)
    direction = matching_direction(x.detach(), real, fake, is_target, weights)
    matching_loss(x, direction, is_target).backward()
    assert x.grad is not None
    assert torch.allclose(x.grad, direction / (2 * 4 * 4 * 3 * 2), rtol=1e-4, atol=1e-8)
    assert float(x.grad[:, :, 0].abs().max()) == 0.0


def expected_x_0(x_sigma: Tensor, sigma: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """What a Gaussian's x_sigma comes from on average: the answer of a perfectly learnt network."""
    level = sigma[:, None, None, None, None]
    variance = deviation**2
    gain = variance * (1 - level) / ((1 - level) ** 2 * variance + level**2)
    return mean + gain * (x_sigma - (1 - level) * mean)


def test_a_generator_finds_the_mean_and_the_deviation_of_its_teacher() -> None:
    """Both judges are exact: the teacher's Gaussian never moves, the critic's is the student's."""
    generator = torch.Generator().manual_seed(0)
    teacher = torch.tensor(2.0), torch.tensor(0.5)
    mean, deviation = torch.tensor(-1.0, requires_grad=True), torch.tensor(1.5, requires_grad=True)
    optimizer = torch.optim.Adam([mean, deviation], lr=0.05, betas=(0.0, 0.999))
    is_target = torch.ones(8, 1)
    away = []
    for _ in range(200):
        x = mean + deviation * torch.randn(8, 1, 1, 6, 6, generator=generator)
        sigma = score_sigma(torch.rand(8, generator=generator), 10.0, (0.02, 0.98))
        eps = torch.randn(x.shape, generator=generator)
        x_sigma = add_noise(x.detach(), eps, sigma[:, None])
        direction = matching_direction(
            x.detach(),
            real=expected_x_0(x_sigma, sigma, *teacher),
            fake=expected_x_0(x_sigma, sigma, mean.detach(), deviation.detach()),
            is_target=is_target,
            channel_weights=ONES,
        )
        optimizer.zero_grad()
        matching_loss(x, direction, is_target).backward()
        optimizer.step()
        away.append(abs(float(mean.detach()) - 2.0) + abs(float(deviation.detach()) - 0.5))
    assert away[40] < 0.6 * away[0]
    assert sum(away[-40:]) / 40 < 0.15


def test_levels_are_uniform_then_shifted_then_clamped() -> None:
    generator = torch.Generator().manual_seed(0)
    levels = score_sigma(torch.rand(20_000, generator=generator), 10.0, (0.02, 0.98))
    assert float(levels.min()) == pytest.approx(0.02)
    assert float(levels.max()) == pytest.approx(0.98)
    # Half of the uniform draws lie above 0.5, which the shift moves to 10/11.
    assert abs(float((levels > 10 / 11).float().mean()) - 0.5) < 0.02
    # sigma = 0.98 is the shift of 0.98 / (10 - 9 * 0.98) = 0.831.
    assert abs(float((levels == levels.max()).float().mean()) - 0.169) < 0.02
