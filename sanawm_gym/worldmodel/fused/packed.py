"""Linear maps and convolutions whose weights lie in the order in which the processor reads them.

oneDNN, which torch brings along, multiplies fastest with weights in blocks of its own choosing, and
can add a bias and apply an activation while a result is still in a register. torch's own layers put
the weights in that order anew at every call; here it is done once. Without oneDNN, on another
device or for export, the same layers run as torch's plain functions; numbers differ by rounding.

Axes: m rows, i inputs, o outputs, b pictures, h and w of a picture.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Activation = Literal["none", "silu"]
_ONEDNN_NAMES = {"none": "none", "silu": "swish"}
_ROWS_HINT = 144
"""Rows that the order of the weights is chosen for: the tokens of a bundled frame. Any number
works."""


def can_pack(weight: Tensor) -> bool:
    """Whether oneDNN takes weights of this device and dtype."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32


class PackedLinear:
    """y = activation(x W^T + bias).

    Args:
        weight: (o, i).
        bias: (o,) or None.
        activation: Applied last.
        packed: Let oneDNN order the weights where it can; False keeps torch's functions, which can
            be exported.
    """

    def __init__(
        self,
        weight: Float[Tensor, "o i"],
        bias: Float[Tensor, " o"] | None,
        activation: Activation = "none",
        *,
        packed: bool = True,
    ) -> None:
        self._weight = weight.detach().contiguous()
        self._bias = None if bias is None else bias.detach().contiguous()
        self._activation = activation
        self._packed: Tensor | None = None
        if packed and can_pack(weight):
            self._packed = torch.ops.mkldnn._reorder_linear_weight(self._weight, _ROWS_HINT)

    def __call__(self, x: Float[Tensor, "*m i"]) -> Float[Tensor, "*m o"]:
        """Apply."""
        if self._packed is not None:
            name = _ONEDNN_NAMES[self._activation]
            out: Tensor = torch.ops.mkldnn._linear_pointwise(
                x, self._packed, self._bias, name, [], ""
            )
            return out
        y = F.linear(x, self._weight, self._bias)
        return F.silu(y) if self._activation == "silu" else y


class PackedConv:
    """A convolution of stride 1 that keeps the size of the picture; channels last, in and out.

    Args:
        weight: (o, i / groups, k, k) with odd k.
        bias: (o,) or None.
        groups: Groups of channels.
        packed: As for `PackedLinear`.
    """

    def __init__(
        self,
        weight: Float[Tensor, "o i k k"],
        bias: Float[Tensor, " o"] | None,
        groups: int = 1,
        *,
        packed: bool = True,
    ) -> None:
        self._weight = weight.detach().contiguous(memory_format=torch.channels_last)
        self._bias = None if bias is None else bias.detach().contiguous()
        self._groups = groups
        self._padding = weight.shape[-1] // 2
        self._can_pack = packed and can_pack(weight)
        self._by_size: dict[torch.Size, Tensor] = {}

    def __call__(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h w"]:
        """Apply."""
        if not self._can_pack:
            return F.conv2d(x, self._weight, self._bias, padding=self._padding, groups=self._groups)
        return self._run(x)

    def add_to(
        self, x: Float[Tensor, "b i h w"], other: Float[Tensor, "b o h w"]
    ) -> Float[Tensor, "b o h w"]:
        """The convolution plus another picture."""
        if not self._can_pack:
            return other + self(x)
        return self._run(x, other)

    def _run(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        pads, ones = [self._padding] * 2, [1, 1]
        weight = self._by_size.get(x.shape)
        if weight is None:
            # The best order depends on the size of the picture.
            weight = torch.ops.mkldnn._reorder_convolution_weight(
                self._weight, pads, ones, ones, self._groups, list(x.shape)
            )
            self._by_size[x.shape] = weight
        tail = (weight, self._bias, pads, ones, ones, self._groups)
        ops = torch.ops.mkldnn
        if other is None:
            out: Tensor = ops._convolution_pointwise(x, *tail, "none", [], "")
            return out
        both: Tensor = ops._convolution_pointwise.binary(
            x, other, *tail, "add", None, None, [], None
        )
        return both
