"""Prompts as the released network reads them: Gemma-2's last hidden state of 300 tokens.

The network was trained with an instruction before every prompt (`SamplingConfig.instruction`). The
whole text is tokenised, padded or cut on the right to the instruction's length plus 298, and of its
hidden states the first one and the last 299 are kept: the start token, the end of the instruction
that the prompt shares its tokens with, and the prompt. A negative prompt has no instruction and
takes all of its 300 tokens. Tokeniser and model are those of transformers (extra `full`).

Axes: b prompts, l tokens, e text channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .offload import present

DEFAULT_TEXT = "Efficient-Large-Model/gemma-2-2b-it"
"""Where the text encoder is published, for releases that bring none."""


class GemmaText:
    """Prompts to features.

    Args:
        tokenizer: Gemma's.
        model: Gemma-2 without its head.
        instruction: Lines before every prompt.
        max_tokens: Tokens of a prompt as the network reads it.
        device: Where it computes; if the model rests elsewhere, it comes over for every call.

    Attributes:
        channels: Of the features.
    """

    def __init__(
        self,
        tokenizer: Any,
        model: Any,
        *,
        instruction: Sequence[str],
        max_tokens: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.tokenizer = tokenizer
        self.model = model.eval().requires_grad_(False)
        self.channels: int = model.config.hidden_size
        self._instruction = "\n".join(instruction)
        self._max_tokens = max_tokens
        self._device = torch.device(device)

    @staticmethod
    def from_folder(
        folder: Path,
        *,
        instruction: Sequence[str],
        max_tokens: int,
        device: torch.device | str = "cpu",
        rest: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> GemmaText:
        """Load from a release with `text_encoder/` and `tokenizer/`, or from a folder of both.

        Args:
            folder: The release, or Gemma's own folder.
            instruction: Lines before every prompt.
            max_tokens: Tokens of a prompt.
            device: Where it computes.
            rest: Where it waits between calls; None is `device`.
            dtype: Of its weights.

        Raises:
            ValueError: If there is no text encoder.
            ModuleNotFoundError: Without transformers (extra `full`).
        """
        model, tokenizer = folder / "text_encoder", folder / "tokenizer"
        if not model.is_dir():
            model = tokenizer = folder
        if not (model / "config.json").is_file():
            raise ValueError(f"{folder} holds no text encoder: expected text_encoder/config.json")
        from transformers import AutoTokenizer, Gemma2Model

        loaded: Any = Gemma2Model.from_pretrained(model, dtype=dtype)
        return GemmaText(
            AutoTokenizer.from_pretrained(tokenizer),
            loaded.to(device if rest is None else rest),
            instruction=instruction,
            max_tokens=max_tokens,
            device=device,
        )

    def encode(self, prompts: Sequence[str]) -> tuple[Float[Tensor, "b l e"], Bool[Tensor, "b l"]]:
        """Features and mask of prompts, the instruction before each."""
        if not self._instruction:
            return self._features(list(prompts), self._max_tokens)
        # The instruction's own tokens with a start token; prompt and padding fill up the rest.
        length = len(self.tokenizer.encode(self._instruction)) + self._max_tokens - 2
        features, mask = self._features([self._instruction + p for p in prompts], length)
        kept = torch.tensor([0, *range(length - self._max_tokens + 1, length)])
        return features[:, kept.to(features.device)], mask[:, kept.to(mask.device)]

    def encode_negative(
        self, prompts: Sequence[str]
    ) -> tuple[Float[Tensor, "b l e"], Bool[Tensor, "b l"]]:
        """Features and mask of negative prompts, which have no instruction."""
        return self._features(list(prompts), self._max_tokens)

    @torch.no_grad()
    def _features(self, texts: list[str], length: int) -> tuple[Tensor, Tensor]:
        tokens = self.tokenizer(
            texts,
            max_length=length,
            padding="max_length",
            padding_side="right",
            truncation=True,
            return_tensors="pt",
        ).to(self._device)
        with present(self.model, self._device):
            out = self.model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
        return out.last_hidden_state, tokens.attention_mask.bool()
