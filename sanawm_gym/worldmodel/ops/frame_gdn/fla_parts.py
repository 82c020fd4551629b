"""Kernels of flash-linear-attention, where its mathematics is that of SANA-WM.

Used with the Triton form (`backend`) on CUDA devices, and imported only then: fla brings
transformers along, which takes seconds. Not used while torch compiles a graph, which fuses these
few operators itself, nor by Triton's interpreter, where fla cannot time its choices.

What is equal, and taken:

* `fla.ops.gated_delta_rule.gate.fused_gdn_gate` is -exp(A_log) softplus(x + dt_bias), in float32:
  the logarithm of the decay.
* `fla.modules.activations.swiglu` is silu(x) y, in float32 between reading and writing: the output
  gate.

What is not, or not to advantage:

* The delta rules of `fla.ops` multiply a frame's tokens into the state one after the other; here
  their sum is applied once a frame. Equal for one token a frame only, which the tests hold it to.
* `fla.modules.causal_conv1d` is the one-sided half of the short convolution, and wants the frames
  of every token next to each other; `kernels.conv` does both sides on the tokens as they lie.
* `fla.modules.RMSNorm` is the norm of queries and keys; here it is part of the one pass that also
  scales and turns them (`kernels.prepare`).
* `fla.modules.FusedRMSNormGated` normalises what it gates, and the output gate does not.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from .backend import chosen_form


def _taken(x: Tensor) -> bool:
    return x.is_cuda and not torch.compiler.is_compiling() and chosen_form(x) == "triton"


def decay_of_gate(
    gate: Float[Tensor, "b t h"], rate_log: Float[Tensor, " h"], bias: Float[Tensor, " h"]
) -> Float[Tensor, "b t h"]:
    """Share of memory kept, exp(-exp(rate_log) softplus(gate + bias)).

    Args:
        gate: Logits, at least float32.
        rate_log: A_log of the block.
        bias: dt_bias of the block.
    """
    if _taken(gate):
        from fla.ops.gated_delta_rule.gate import fused_gdn_gate

        log: Tensor = fused_gdn_gate(gate, rate_log, bias)
        return log.exp()
    dtype = gate.dtype
    rate = rate_log.to(dtype).exp() * F.softplus(gate + bias.to(dtype))
    return torch.exp(-rate)


def gated(x: Float[Tensor, "*n c"], gate: Float[Tensor, "*n c"]) -> Float[Tensor, "*n c"]:
    """silu(gate) x."""
    if _taken(x):
        from fla.modules.activations import swiglu

        product: Tensor = swiglu(gate, x)
        return product
    return x * F.silu(gate)
