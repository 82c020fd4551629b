"""What the world-model stages train together: the network and its text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from sanawm_gym.worldmodel.config import SanaWMConfig
from sanawm_gym.worldmodel.cross_attention import TextContext
from sanawm_gym.worldmodel.folder import load_weights, read_config, save_module
from sanawm_gym.worldmodel.model import SanaWM
from sanawm_gym.worldmodel.text import CaptionEncoder, CaptionEncoderConfig, build_vocabulary


class WorldWeights(nn.Module):
    """A velocity network and the text encoder whose features it reads."""

    def __init__(self, network: SanaWM, text_encoder: CaptionEncoder) -> None:
        super().__init__()
        self.network = network
        self.text_encoder = text_encoder

    def text(self, captions: Sequence[str]) -> TextContext:
        """Encode captions into keys and values of every block."""
        return self.network.encode_text(*self.text_encoder(captions))

    def save(self, folder: Path) -> None:
        """Write both parts with their configurations."""
        save_module(folder, "network", self.network, self.network.config)
        save_module(folder, "text_encoder", self.text_encoder, self.text_encoder.config)


def make_weights(model: SanaWMConfig, captions: Sequence[str], init: Path | None) -> WorldWeights:
    """Fresh weights with a vocabulary from ``captions``, or those of an earlier stage.

    Args:
        model: Size of the network.
        captions: Captions of the training clips.
        init: Folder written by an earlier stage, or None. Its vocabulary is kept.
    """
    if init is None:
        text = CaptionEncoderConfig(
            vocabulary=build_vocabulary(captions), channels=model.caption_channels
        )
        return WorldWeights(SanaWM(model), CaptionEncoder(text))
    return load_world_weights(init, model)


def load_world_weights(folder: Path, model: SanaWMConfig | None = None) -> WorldWeights:
    """Weights that an earlier stage wrote.

    Args:
        folder: Its output folder.
        model: Network to fill; None takes the one described in the folder.
    """
    config = read_config(folder / "network.json", SanaWMConfig) if model is None else model
    text = read_config(folder / "text_encoder.json", CaptionEncoderConfig)
    weights = WorldWeights(SanaWM(config), CaptionEncoder(text))
    load_weights(folder, "network", weights.network)
    load_weights(folder, "text_encoder", weights.text_encoder)
    return weights
