"""The flow schedule against its closed forms."""

import pytest
import torch

from sanawm_gym.worldmodel.flow import (
    add_noise,
    euler_sigmas,
    sample_sigma,
    shift_sigma,
    velocity,
    velocity_to_x_0,
)


def test_velocity_to_x_0_inverts_the_path() -> None:
    x_0, eps = torch.randn(2, 2, 3, 4, 3, 5)
    sigma = torch.tensor([[0.0, 0.3, 1.0, 0.9], [0.5, 0.01, 0.7, 0.2]])
    x_sigma = add_noise(x_0, eps, sigma)
    recovered = velocity_to_x_0(x_sigma, velocity(x_0, eps), sigma)
    torch.testing.assert_close(recovered, x_0, rtol=1e-5, atol=1e-5)


def test_the_path_runs_from_data_to_noise() -> None:
    x_0, eps = torch.randn(2, 1, 3, 2, 3, 5)
    torch.testing.assert_close(add_noise(x_0, eps, torch.zeros(1, 2)), x_0)
    torch.testing.assert_close(add_noise(x_0, eps, torch.ones(1, 2)), eps)


def test_four_steps_with_shift_eight_are_the_released_timesteps() -> None:
    assert [round(1000 * sigma) for sigma in euler_sigmas(4, 8.0)] == [1000, 960, 889, 727, 0]


def test_shifting_by_the_inverse_shift_undoes_a_shift() -> None:
    sigma = torch.linspace(0, 1, 11)
    torch.testing.assert_close(shift_sigma(shift_sigma(sigma, 8.0), 1 / 8.0), sigma)


def test_sampled_levels_have_the_shifted_median() -> None:
    generator = torch.Generator().manual_seed(0)
    sigma = sample_sigma((20_000,), shift=8.0, generator=generator, device=torch.device("cpu"))
    assert float(sigma.median()) == pytest.approx(8 / 9, abs=0.01)
    assert float(sigma.min()) > 0
    assert float(sigma.max()) < 1


def test_a_shift_that_is_not_positive_is_refused() -> None:
    with pytest.raises(ValueError, match="shift must be positive, got 0"):
        shift_sigma(torch.ones(1), 0.0)
