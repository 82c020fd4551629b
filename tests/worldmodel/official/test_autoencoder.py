"""LTX-2's autoencoder behind our calls: scale, and decoding in pieces against decoding at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sanawm_gym.worldmodel.official.autoencoder import Ltx2Autoencoder
from sanawm_gym.worldmodel.official.stream_decoder import StreamDecoder

from .components import GRID, SIZE, autoencoder


@pytest.fixture
def latents() -> torch.Tensor:
    return torch.randn(2, 8, 6, *GRID)


def plain_decode(latents: torch.Tensor, causal: bool = True) -> torch.Tensor:
    module = autoencoder(causal)
    scale = (1, -1, 1, 1, 1)
    unscaled = latents * module.latents_std.view(scale) + module.latents_mean.view(scale)
    with torch.no_grad():
        return module.decode(unscaled, return_dict=False)[0]


def test_strides_are_read_off_the_layers() -> None:
    codec = Ltx2Autoencoder(autoencoder())
    assert (codec.temporal_stride, codec.spatial_stride, codec.causal) == (8, 32, True)


def test_a_picture_is_encoded_to_the_scaled_mode_of_its_posterior() -> None:
    picture, module = torch.rand(2, 3, *SIZE) * 2 - 1, autoencoder()
    latent = Ltx2Autoencoder(module).encode_picture(picture)
    with torch.no_grad():
        mode = module.encode(picture[:, :, None]).latent_dist.mode()
    assert latent.shape == (2, 8, 1, *GRID)
    scale = (1, -1, 1, 1, 1)
    back = latent * module.latents_std.view(scale) + module.latents_mean.view(scale)
    torch.testing.assert_close(back, mode, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pieces", [[6], [1, 1, 1, 1, 1, 1], [4, 2], [1, 3, 2]])
def test_decoding_in_pieces_is_decoding_at_once(pieces: list[int], latents: torch.Tensor) -> None:
    codec = Ltx2Autoencoder(autoencoder())
    parts, memory = [], None
    for piece in latents.split(pieces, dim=2):
        pictures, memory = codec.decode_step(piece, memory)
        parts.append(pictures)
    assert [part.shape[2] for part in parts] == [8 * n - 7 * (i == 0) for i, n in enumerate(pieces)]
    torch.testing.assert_close(torch.cat(parts, dim=2), plain_decode(latents), atol=1e-5, rtol=0)


def test_what_is_remembered_is_a_value_of_fixed_size(latents: torch.Tensor) -> None:
    codec = Ltx2Autoencoder(autoencoder())
    _, once = codec.decode_step(latents[:, :, :1], None)
    _, later = codec.decode_step(latents[:, :, 1:], once)
    assert [x.shape for x in once] == [x.shape for x in later]
    again = codec.decode_step(latents[:, :, 1:2], once)[0]
    torch.testing.assert_close(again, plain_decode(latents)[:, :, 1:9], atol=1e-5, rtol=0)
    one_row = codec.decode_step(latents[1:, :, 1:2], tuple(x[1:] for x in once))[0]
    torch.testing.assert_close(one_row, again[1:], atol=1e-5, rtol=0)


def test_the_module_is_as_it_was_after_a_stream(latents: torch.Tensor) -> None:
    before = plain_decode(latents)
    codec = Ltx2Autoencoder(autoencoder())
    codec.decode_step(latents, None)
    with pytest.raises(IndexError):
        codec.decode_step(latents, (latents[:, :, :2],))
    assert torch.equal(plain_decode(latents), before)
    torch.testing.assert_close(codec.decode(latents), before, atol=1e-5, rtol=0)


def test_a_decoder_that_looks_ahead_overlaps_and_drops_what_was_shown(
    latents: torch.Tensor,
) -> None:
    module = autoencoder(causal=False)
    with pytest.raises(ValueError, match="looks ahead"):
        StreamDecoder(module.decoder)
    codec = Ltx2Autoencoder(module)
    first, memory = codec.decode_step(latents[:, :, :4], None)
    second, _ = codec.decode_step(latents[:, :, 4:], memory)
    assert (first.shape[2], second.shape[2]) == (25, 16)
    assert torch.equal(first, plain_decode(latents[:, :, :4], causal=False))
    overlap = plain_decode(latents[:, :, 3:], causal=False)
    torch.testing.assert_close(second, overlap[:, :, 1:], atol=1e-5, rtol=0)


def test_a_saved_autoencoder_opens_again(tmp_path: Path, latents: torch.Tensor) -> None:
    autoencoder().save_pretrained(tmp_path)
    # The streaming release names a class of its own for the same weights.
    config = json.loads((tmp_path / "config.json").read_text())
    config["_class_name"] = "AutoencoderKLCausalLTX2Video"
    (tmp_path / "config.json").write_text(json.dumps(config))
    codec = Ltx2Autoencoder.from_folder(tmp_path)
    torch.testing.assert_close(codec.decode(latents), plain_decode(latents), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="holds no autoencoder"):
        Ltx2Autoencoder.from_folder(tmp_path / "vae")
