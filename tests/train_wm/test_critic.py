"""What own drives are judged by."""

import pytest
import torch
import torch.nn.functional as F

from sanawm_gym.train_wm.critic import Critic, appearance_error, critic_losses
from sanawm_gym.worldmodel.ground_warp import fine_detail


def pictures(count: int) -> torch.Tensor:
    return torch.rand(count, 3, 2, 72, 128) * 2 - 1


def test_critic_and_generator_losses_touch_disjoint_parameters() -> None:
    critic, drawn = Critic(2, width=8), pictures(2).requires_grad_()
    grain = torch.randn(drawn.shape)
    critic_loss, generator_loss = critic_losses(critic, pictures(2), drawn, grain, 0.01)
    parameters = list(critic.parameters())
    assert torch.autograd.grad(critic_loss, drawn, retain_graph=True, allow_unused=True) == (None,)
    assert all(p.abs().sum() > 0 for p in torch.autograd.grad(critic_loss, parameters))
    alone = torch.autograd.grad(generator_loss, parameters, retain_graph=True, allow_unused=True)
    assert alone == (None,) * len(parameters)
    assert torch.autograd.grad(generator_loss, drawn)[0].abs().sum() > 0


def test_a_critic_learns_to_tell_a_blur_from_the_picture() -> None:
    torch.manual_seed(0)
    critic = Critic(2, width=8)
    optimizer = torch.optim.AdamW(critic.parameters(), 2e-3)
    losses = []
    for _ in range(40):
        sharp = pictures(4)
        blurred = F.avg_pool3d(sharp, (1, 5, 5), stride=1, padding=(0, 2, 2))
        loss, _ = critic_losses(critic, sharp, blurred, torch.zeros_like(sharp), 0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 < losses[0]


def test_the_critic_pays_for_what_grain_changes() -> None:
    torch.manual_seed(0)
    critic, real, drawn = Critic(2, width=8), pictures(2), pictures(2)
    grain = torch.randn(real.shape)
    plain, _ = critic_losses(critic, real, drawn, grain, 0.0)
    smooth, _ = critic_losses(critic, real, drawn, grain, 1.0)
    none, _ = critic_losses(critic, real, drawn, torch.zeros_like(grain), 1.0)
    assert smooth > plain
    assert none == plain


def test_a_critic_that_reads_captions_learns_what_belongs_to_them() -> None:
    torch.manual_seed(0)
    critic = Critic(2, width=8, caption_channels=4)
    optimizer = torch.optim.AdamW(critic.parameters(), 3e-3)
    captions, grey = torch.eye(4)[:2], torch.tensor([-0.6, 0.6]).view(2, 1, 1, 1, 1)
    for _ in range(60):
        real, drawn = (pictures(2)[..., :36, :64] for _ in range(2))
        real = 0.3 * real + grey
        loss, _ = critic_losses(critic, real, drawn, 0 * real, 0.0, (captions, captions.flip(0)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        its_own, another = critic(real, captions), critic(real, captions.flip(0))
    assert its_own.mean() > another.mean() + 0.2


def test_a_critic_that_reads_captions_says_when_there_are_none() -> None:
    with pytest.raises(ValueError, match="captions"):
        Critic(2, width=8, caption_channels=4)(pictures(1))


def test_the_critic_knows_the_row() -> None:
    critic = Critic(2, width=8)
    even = torch.zeros(1, 3, 2, 72, 128)
    scores = critic(even)[0, 0, 2:-2, 8]
    assert scores.std() > 1e-4


def test_appearance_is_blind_to_what_stands_where_along_a_row() -> None:
    picture = pictures(2)
    moved = picture.roll(40, dims=-1)
    assert appearance_error(picture, picture) == 0
    # Only where the two ends of a row meet does fine detail change.
    assert appearance_error(moved, picture) < 0.01
    darker, blurred = picture - 0.3, picture - torch.stack(
        [fine_detail(picture[:, :, i]) for i in range(2)], dim=2
    )  # fmt: skip
    assert appearance_error(darker, picture) > 0.29
    assert appearance_error(blurred, picture) > 0.3


def test_fine_detail_of_an_even_slope_is_nothing() -> None:
    slope = torch.linspace(-1, 1, 32).expand(1, 3, 16, 32)
    assert fine_detail(slope)[..., 2:-2].abs().max() < 1e-6
    assert fine_detail(torch.rand(1, 3, 16, 32)).std() > 0.1
