"""Prompts as the released refiner reads them: all of Gemma-3's layers through LTX-2's connectors.

Of at most 1024 tokens, padded on the left, every hidden state counts: the embeddings and what each
layer made of them. Each of these is brought to one scale by itself, 8 (x - mean) / (max - min) over
the tokens that count; side by side they go through a connector, which returns the features that the
refiner's cross-attention reads. Model, tokeniser and connectors are those of transformers and
diffusers (extra `full`).

Axes: b prompts, m tokens, e text channels, l layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .offload import present

MAX_TOKENS = 1024
_SPREAD, _EPS = 8.0, 1e-6


def even_out(
    states: Float[Tensor, "b m e l"], mask: Bool[Tensor, "b m"]
) -> Float[Tensor, "b m el"]:
    """Hidden states of all layers on one scale, side by side; zero where no token counts."""
    counts = mask[:, :, None, None]
    size = (mask.sum(dim=1) * states.shape[2]).view(-1, 1, 1, 1)
    mean = states.masked_fill(~counts, 0.0).sum(dim=(1, 2), keepdim=True) / (size + _EPS)
    lowest = states.masked_fill(~counts, float("inf")).amin(dim=(1, 2), keepdim=True)
    highest = states.masked_fill(~counts, float("-inf")).amax(dim=(1, 2), keepdim=True)
    scaled = _SPREAD * (states - mean) / (highest - lowest + _EPS)
    return scaled.masked_fill(~counts, 0.0).flatten(2)


class Gemma3Text:
    """Prompts to features of the refiner.

    Args:
        tokenizer: Gemma's.
        model: Gemma-3.
        connectors: LTX-2's text connectors.
        device: Where they compute; what rests elsewhere comes over for every call.
        max_tokens: Tokens of a prompt.
    """

    def __init__(
        self,
        tokenizer: Any,
        model: Any,
        connectors: Any,
        *,
        device: torch.device | str = "cpu",
        max_tokens: int = MAX_TOKENS,
    ) -> None:
        self.tokenizer = tokenizer
        self.model = model.eval().requires_grad_(False)
        self.connectors = connectors.eval().requires_grad_(False)
        self._device = torch.device(device)
        self._max_tokens = max_tokens

    @staticmethod
    def from_folders(
        text: Path,
        connectors: Path,
        *,
        device: torch.device | str = "cpu",
        rest: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
        max_tokens: int = MAX_TOKENS,
    ) -> Gemma3Text:
        """Load Gemma-3 with its tokeniser from one folder and the connectors from another.

        Raises:
            ValueError: If one of them is missing.
            ModuleNotFoundError: Without transformers and diffusers (extra `full`).
        """
        for folder in (text, connectors):
            if not (folder / "config.json").is_file():
                raise ValueError(f"{folder} holds no model: expected config.json and safetensors")
        from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
        from transformers import AutoTokenizer, Gemma3ForConditionalGeneration

        home = device if rest is None else rest
        model: Any = Gemma3ForConditionalGeneration.from_pretrained(text, dtype=dtype)
        connector_class: Any = LTX2TextConnectors
        connector = connector_class.from_pretrained(connectors, torch_dtype=dtype)
        own = (text / "tokenizer_config.json").is_file()
        tokenizer = AutoTokenizer.from_pretrained(text if own else text.parent / "tokenizer")
        return Gemma3Text(
            tokenizer, model.to(home), connector.to(home), device=device, max_tokens=max_tokens
        )

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> tuple[Float[Tensor, "b m f"], Bool[Tensor, "b m"]]:
        """Features and mask of prompts."""
        tokens = self.tokenizer(
            [prompt.strip() for prompt in prompts],
            max_length=self._max_tokens,
            padding="max_length",
            padding_side="left",
            truncation=True,
            return_tensors="pt",
        ).to(self._device)
        with present(self.model, self._device):
            out = self.model(
                input_ids=tokens.input_ids,
                attention_mask=tokens.attention_mask,
                output_hidden_states=True,
            )
        states = torch.stack(out.hidden_states, dim=-1)
        packed = even_out(states, tokens.attention_mask.bool())
        with present(self.connectors, self._device):
            dtype = next(self.connectors.parameters()).dtype
            features, _, mask = self.connectors(packed.to(dtype), tokens.attention_mask)
        return features, mask.bool()
