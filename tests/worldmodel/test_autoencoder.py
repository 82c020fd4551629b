"""The video autoencoder: causality, streaming, sizes."""

import pytest
import torch

from sanawm_gym.worldmodel.autoencoder import VideoAutoencoder, VideoAutoencoderConfig

TINY = VideoAutoencoderConfig(
    latent_channels=4, fine_channels=8, coarse_channels=12, fine_blocks=2, coarse_blocks=2
)


@pytest.fixture
def model() -> VideoAutoencoder:
    model = VideoAutoencoder(TINY).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.latents_mean.normal_()
    model.latents_std.uniform_(0.5, 2.0)
    return model


def clip(frames: int) -> torch.Tensor:
    return torch.rand(2, 3, frames, 16, 24) * 2 - 1


@pytest.mark.parametrize("frames", [1, 5, 17])
def test_decoding_an_encoding_has_the_clips_shape(model: VideoAutoencoder, frames: int) -> None:
    latents = model.encode(clip(frames))
    assert latents.shape == (2, 4, (frames - 1) // 4 + 1, 2, 3)
    assert model.decode(latents).shape == (2, 3, frames, 16, 24)


@pytest.mark.parametrize("chunks", [[1, 1, 1, 1, 1], [2, 3], [1, 4]])
@torch.no_grad()
def test_streaming_decode_equals_the_full_decode(
    model: VideoAutoencoder, chunks: list[int]
) -> None:
    latents = torch.randn(2, 4, 5, 2, 3)
    memory, parts = None, []
    for part in latents.split(chunks, dim=2):
        frames, memory = model.decode_step(part, memory)
        parts.append(frames)
    torch.testing.assert_close(torch.cat(parts, dim=2), model.decode(latents), rtol=0, atol=1e-5)


@pytest.mark.parametrize("length", [1, 2, 4])
@torch.no_grad()
def test_decoding_a_prefix_gives_the_first_frames_of_the_whole(
    model: VideoAutoencoder, length: int
) -> None:
    latents = torch.randn(2, 4, 5, 2, 3)
    prefix = model.decode(latents[:, :, :length])
    whole = model.decode(latents)[:, :, : prefix.shape[2]]
    torch.testing.assert_close(prefix, whole, rtol=0, atol=1e-5)


@torch.no_grad()
def test_later_frames_change_no_earlier_latent(model: VideoAutoencoder) -> None:
    frames = clip(9)
    changed = frames.clone()
    changed[:, :, 5:] = 0
    before, after = model.encode(frames), model.encode(changed)
    torch.testing.assert_close(before[:, :, :2], after[:, :, :2])
    assert not torch.allclose(before[:, :, 2], after[:, :, 2])


@torch.no_grad()
def test_the_first_latent_knows_the_first_frame_alone(model: VideoAutoencoder) -> None:
    frames = clip(5)
    torch.testing.assert_close(model.encode(frames)[:, :, :1], model.encode(frames[:, :, :1]))


@torch.no_grad()
def test_denormalize_inverts_normalize(model: VideoAutoencoder) -> None:
    z = torch.randn(2, 4, 3, 2, 3)
    torch.testing.assert_close(model.denormalize(model.normalize(z)), z)


def test_a_frame_count_off_the_stride_is_refused(model: VideoAutoencoder) -> None:
    with pytest.raises(ValueError, match="got 6 frames, expected a multiple of 4 plus 1"):
        model.encode(clip(6))


def test_a_picture_off_the_stride_is_refused(model: VideoAutoencoder) -> None:
    with pytest.raises(ValueError, match="divisible by 8"):
        model.encode(torch.zeros(1, 3, 1, 12, 16))
