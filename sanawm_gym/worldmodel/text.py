"""The bundled world's text encoder: words of a caption to vectors for cross-attention.

The official model reads Gemma-2 features. A world of a few million parameters cannot carry a
language model, so the bundled one learns a vocabulary from the captions of its training drives and
one transformer layer over it, trained together with the network. Words outside the vocabulary
become one shared unknown token; :meth:`CaptionEncoder.unknown_words` names them, so that a caller
can say which part of a prompt the world has never heard of.

Axes: b prompts, l tokens, d channels.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

PAD, UNKNOWN, BEGIN = 0, 1, 2
_NUM_SPECIAL = 3
_WORD = re.compile(r"[a-z]+|[0-9]+")


def split_words(text: str) -> list[str]:
    """Lower-case words and numbers of a text, in order."""
    return _WORD.findall(text.lower())


def build_vocabulary(captions: Iterable[str], min_count: int = 1) -> tuple[str, ...]:
    """Words of ``captions`` that occur at least ``min_count`` times, in alphabetical order."""
    counts = Counter(word for caption in captions for word in split_words(caption))
    return tuple(sorted(word for word, count in counts.items() if count >= min_count))


@dataclass(frozen=True, kw_only=True)
class CaptionEncoderConfig:
    """Vocabulary and size of a :class:`CaptionEncoder`."""

    vocabulary: tuple[str, ...]
    """Known words; their position plus three is their token."""
    channels: int = 64
    """Width d of the features."""
    num_heads: int = 4
    """Heads of the transformer layer."""
    max_tokens: int = 32
    """Tokens l of every prompt; longer prompts are cut, shorter ones padded."""

    def __post_init__(self) -> None:
        """Refuse an empty vocabulary and heads that do not divide the width."""
        if not self.vocabulary:
            raise ValueError("vocabulary is empty: build it from the captions of a dataset")
        if self.channels % self.num_heads:
            raise ValueError(
                f"channels ({self.channels}) must be divisible by num_heads ({self.num_heads})"
            )


class CaptionEncoder(nn.Module):
    """Word embeddings, learnt positions and one pre-norm transformer layer.

    Args:
        config: Vocabulary and sizes.
    """

    def __init__(self, config: CaptionEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self._token = {word: i + _NUM_SPECIAL for i, word in enumerate(config.vocabulary)}
        d = config.channels
        self.embedding = nn.Embedding(len(config.vocabulary) + _NUM_SPECIAL, d)
        self.position = nn.Parameter(0.02 * torch.randn(config.max_tokens, d))
        self.layer = nn.TransformerEncoderLayer(
            d, config.num_heads, 4 * d, dropout=0.0, batch_first=True, norm_first=True
        )
        self.norm = nn.LayerNorm(d)

    def tokenize(self, prompts: Sequence[str]) -> tuple[Int[Tensor, "b l"], Bool[Tensor, "b l"]]:
        """Token ids and validity mask; every prompt begins with one BEGIN token.

        An empty prompt is the null caption of classifier-free training: BEGIN alone.
        """
        ids = torch.full((len(prompts), self.config.max_tokens), PAD)
        for row, prompt in enumerate(prompts):
            tokens = [BEGIN, *(self._token.get(word, UNKNOWN) for word in split_words(prompt))]
            tokens = tokens[: self.config.max_tokens]
            ids[row, : len(tokens)] = torch.tensor(tokens)
        return ids, ids != PAD

    def unknown_words(self, prompt: str) -> list[str]:
        """Words of ``prompt`` outside the vocabulary, in order, once each."""
        words = dict.fromkeys(split_words(prompt))
        return [word for word in words if word not in self._token]

    def forward(self, prompts: Sequence[str]) -> tuple[Float[Tensor, "b l d"], Bool[Tensor, "b l"]]:
        """Encode prompts.

        Returns:
            Features and the mask of valid tokens.
        """
        ids, mask = self.tokenize(prompts)
        device = self.position.device
        ids, mask = ids.to(device), mask.to(device)
        hidden = self.embedding(ids) + self.position
        # A float mask keeps torch on one code path with and without gradients.
        bias = torch.zeros_like(mask, dtype=hidden.dtype).masked_fill(~mask, float("-inf"))
        features: Tensor = self.norm(self.layer(hidden, src_key_padding_mask=bias))
        return features, mask
