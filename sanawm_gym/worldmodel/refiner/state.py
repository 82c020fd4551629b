"""What a refined stream remembers: keys and values of text, sink and history, as a value.

Keys of sink and history are kept as they were before rotation (after their norm). The sink's have
to be: it is turned anew for every block, to stand right before the window. The history's may be:
the released sampler keeps them turned to their absolute frame, which is the same number computed
earlier, and unturned ones can also be counted from the sink in a stream without end.

The history has a fixed number of slots, newest last; `num_history` says how many of them hold
something, so that rows of different ages can stand in one batch. Nothing is ever changed in place.

Axes: b rows, l layers, h heads, s tokens of the sink, k tokens of the history, m text tokens,
d channels of a head.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor

_COUNTERS = ("num_history", "next_frame")


@dataclass(frozen=True, kw_only=True)
class RefinerState:
    """Memory of b refined streams; its size does not grow with time."""

    text_keys: Float[Tensor, "b l h m d"]
    """Keys of the prompt in every layer, the same at every noise level."""
    text_values: Float[Tensor, "b l h m d"]
    text_mask: Bool[Tensor, "b m"]
    """True where a text token counts."""
    sink_keys: Float[Tensor, "b l h s d"]
    """Keys of the first latent frames, never refined, before rotation."""
    sink_values: Float[Tensor, "b l h s d"]
    history_keys: Float[Tensor, "b l h k d"]
    """Keys of the newest refined frames, before rotation; unfilled slots are zero and lie first."""
    history_values: Float[Tensor, "b l h k d"]
    num_history: Int[Tensor, " b"]
    """Latent frames that the history holds; on the CPU."""
    next_frame: Int[Tensor, " b"]
    """Index in the video of the latent frame to come; on the CPU."""

    @property
    def batch_size(self) -> int:
        """Rows b."""
        return self.num_history.shape[0]

    def _map(self, function: Callable[[str, Tensor], Tensor]) -> RefinerState:
        return RefinerState(**{name: function(name, t) for name, t in self.tensors().items()})

    def select(self, indices: Sequence[int]) -> RefinerState:
        """Copy rows; a row named twice is a fork."""
        rows = torch.as_tensor(list(indices), dtype=torch.int64)
        return self._map(lambda _, t: t.index_select(0, rows.to(t.device)))

    @staticmethod
    def concat(states: Sequence[RefinerState]) -> RefinerState:
        """Join the rows of several states, in order.

        Raises:
            ValueError: If there is none.
        """
        if not states:
            raise ValueError("got no states, expected at least one")
        parts = [state.tensors() for state in states]
        return RefinerState(**{name: torch.cat([p[name] for p in parts]) for name in parts[0]})

    def to(self, device: torch.device | str) -> RefinerState:
        """Move to a device; the counters stay on the CPU."""
        return self._map(lambda name, t: t if name in _COUNTERS else t.to(device))

    def detach(self) -> RefinerState:
        """The same values without the graph that made them."""
        return self._map(lambda _, t: t.detach())

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name; ``RefinerState(**tensors)`` takes them back."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def save(self, path: str | Path) -> None:
        """Write to a safetensors file, replaced whole."""
        target = Path(path)
        partial = target.with_suffix(".partial")
        save_file({k: t.contiguous().cpu().clone() for k, t in self.tensors().items()}, partial)
        os.replace(partial, target)

    @staticmethod
    def load(path: str | Path) -> RefinerState:
        """Read what :meth:`save` wrote, onto the CPU."""
        return RefinerState(**load_file(path))
