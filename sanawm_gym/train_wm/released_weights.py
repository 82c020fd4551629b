"""A released SANA-WM to be trained further: its network, its text encoder's words, its layout."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sanawm_gym.train_wm.weights import WorldWeights
from sanawm_gym.worldmodel.config import SanaWMConfig
from sanawm_gym.worldmodel.cross_attention import TextContext
from sanawm_gym.worldmodel.model import SanaWM
from sanawm_gym.worldmodel.official.layout import Layout, get_layout
from sanawm_gym.worldmodel.official.load import load_network
from sanawm_gym.worldmodel.official.parts import OfficialConfig, text_folder
from sanawm_gym.worldmodel.official.save import FOLDER, save_network
from sanawm_gym.worldmodel.official.settings import OfficialSettings, read_settings
from sanawm_gym.worldmodel.official.tensors import open_tensors
from sanawm_gym.worldmodel.official.text import GemmaText


@dataclass(frozen=True, kw_only=True)
class Release:
    """A folder of released weights, described but not read.

    Attributes:
        layout: Its files.
        settings: Its network, with the camera unit to be trained with, and its sampling.
    """

    layout: Layout
    settings: OfficialSettings

    @staticmethod
    def of(folder: Path, camera_unit_m: float | None = None) -> Release:
        """Describe a folder.

        Args:
            folder: In one of the published layouts.
            camera_unit_m: Metres that shall count as one for the network; None as it has them.

        Raises:
            ValueError: If it holds no released network, or describes another kind.
        """
        layout = get_layout(folder, ["network"])
        settings = read_settings(layout, open_tensors(layout.weights).shapes)
        if camera_unit_m is not None:
            network = dataclasses.replace(settings.network, camera_unit_m=camera_unit_m)
            settings = dataclasses.replace(settings, network=network)
        return Release(layout=layout, settings=settings)

    @property
    def model(self) -> SanaWMConfig:
        """Of its network."""
        return self.settings.network

    def network(self) -> SanaWM:
        """The network in float32, all of it to be trained."""
        source = open_tensors(self.layout.weights)
        return load_network(self.model, source).train().requires_grad_(True)

    def words(self, captions: Sequence[str], text: str | None, device: torch.device) -> Words:
        """Features of captions, and of none, from the release's text encoder.

        Args:
            captions: To be known; equal ones are encoded once.
            text: Folder or hub id of Gemma-2; None looks in the release.
            device: On which they are computed.
        """
        sampling = self.settings.sampling
        encoder = GemmaText.from_folder(
            text_folder(self.layout, OfficialConfig(text=text)),
            instruction=sampling.instruction,
            max_tokens=sampling.max_tokens,
            device=device,
        )
        known = {"": encoder.encode_negative([""])}
        for caption in dict.fromkeys(captions):
            if caption:
                known[caption] = encoder.encode([caption])
        return Words(known)


class Words:
    """Text features by caption, kept on the CPU; shared by all copies of the weights."""

    def __init__(self, known: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        self._known = {
            caption: (features.cpu(), mask.cpu()) for caption, (features, mask) in known.items()
        }

    def __deepcopy__(self, memo: dict[int, Any]) -> Words:
        return self

    def __call__(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Features and mask of known captions, rows of each."""
        pairs = [self._known[caption] for caption in captions]
        return torch.cat([pair[0] for pair in pairs]), torch.cat([pair[1] for pair in pairs])


class ReleasedWeights(WorldWeights):
    """A released network and what it reads; only the network is trained.

    Args:
        release: Where it comes from.
        network: Its network.
        words: Features of all captions.
    """

    def __init__(self, release: Release, network: SanaWM, words: Words) -> None:
        nn.Module.__init__(self)
        self.release = release
        self.network = network
        self.words = words

    def text(self, captions: Sequence[str]) -> TextContext:
        """Encode captions into keys and values of every block."""
        features, mask = self.words(captions)
        place = self.network.x_embedder.proj.weight.device
        return self.network.encode_text(features.to(place), mask.to(place))

    def save(self, folder: Path) -> None:
        """Write the network in the layout of diffusers, with its sampling beside."""
        # What a run wrote before is its own to replace.
        shutil.rmtree(folder / FOLDER, ignore_errors=True)
        save_network(folder, self.network, self.release.settings)
