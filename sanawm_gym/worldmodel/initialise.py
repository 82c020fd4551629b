"""Start values for training from scratch.

The network starts as the zero velocity and its blocks as the identity: gates of the residual
branches, the final layer, the camera output, the rays and the temporal convolution begin at zero;
the output gate begins at 1, the short convolutions as the identity, and the recurrence with a fast
write and a slow decay, so that early training sees a plain linear attention. The camera branch
copies the main branch's projections. [SANA-WM: start values of the released training code; adaLN
zero after Peebles and Xie 2023.]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from .attention import SelfAttention
from .block import Block
from .gdn_attention import GDNAttention

if TYPE_CHECKING:
    from .model import SanaWM

OUTPUT_GATE_BIAS = 1.278464542761074
"""SiLU of it is 1."""
TEXT_NORM_SCALE = 0.01
"""Start of the text norm's weight."""


@torch.no_grad()
def initialise(model: SanaWM) -> None:
    """Set every parameter of a network in place."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d):
            nn.init.xavier_uniform_(module.weight.flatten(1))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.RMSNorm):
            nn.init.ones_(module.weight)
    for linear in (model.t_embedder.linear_1, model.t_embedder.linear_2):
        nn.init.trunc_normal_(linear.weight, std=0.02)
    modulation = model.t_block[1]
    assert isinstance(modulation, nn.Linear)
    nn.init.trunc_normal_(modulation.weight, std=0.02)
    # Rows are shift, scale, gate of attention, then of the MLP.
    for gate in (2, 5):
        modulation.weight.unflatten(0, (6, -1))[gate].zero_()
    nn.init.constant_(model.attention_y_norm.weight, TEXT_NORM_SCALE)
    for embedder in (model.plucker_embedder, model.raymap_embedder):
        nn.init.zeros_(embedder.proj.weight)
    nn.init.zeros_(model.final_layer.linear.weight)
    nn.init.zeros_(model.final_layer.scale_shift_table)
    for block in model.blocks:
        assert isinstance(block, Block)
        nn.init.zeros_(block.scale_shift_table)
        nn.init.zeros_(block.cross_attn.proj.weight)
        nn.init.zeros_(block.mlp.t_conv.weight)
        _initialise_attention(block.attn)


def _initialise_attention(attention: SelfAttention) -> None:
    config = attention.config
    nn.init.zeros_(attention.A_log)
    first, last = config.init_dt_bias
    attention.dt_bias.copy_(torch.linspace(first, last, config.num_attention_heads))
    nn.init.zeros_(attention.beta_proj.weight)
    nn.init.constant_(attention.beta_proj.bias, config.init_beta_bias)
    nn.init.zeros_(attention.gate_proj.weight)
    nn.init.zeros_(attention.output_gate.weight)
    nn.init.constant_(attention.output_gate.bias, OUTPUT_GATE_BIAS)
    # Each third by itself: xavier of the fused weight would count all three as its outputs.
    thirds = attention.qkv.weight.chunk(3)
    copies = (attention.q_proj_cam, attention.k_proj_cam, attention.v_proj_cam)
    for third, copy in zip(thirds, copies, strict=True):
        nn.init.xavier_uniform_(third)
        copy.weight.copy_(third)
    nn.init.zeros_(attention.out_proj_cam.weight)
    if isinstance(attention, GDNAttention):
        for conv in (attention.conv_k, attention.conv_k_cam):
            nn.init.zeros_(conv.weight)
            nn.init.ones_(conv.weight[..., -1])
