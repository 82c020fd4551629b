"""One run on several processes: whole weights in each (DDP), or a share in each (FSDP2).

Sharded, a process keeps its share of the weights, their moving average and the moments of the
optimiser. For a forward and backward pass it is lent the whole weights; a step is taken on the
shares. The objective is gathered as a whole, at the beginning of its forward pass, so the processes
need not call its parts equally often; what is saved is the memory of everything but weights and
gradients of the step at hand.

Checkpoints hold whole tensors and know nothing of processes: a run may go on sharded or not.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

if TYPE_CHECKING:
    from accelerate import Accelerator

Sharding = Literal["none", "fsdp2"]


def make_accelerator(
    sharding: Sharding, precision: Literal["no", "bf16"], accumulation: int
) -> Accelerator:
    """Set up the processes that ``accelerate launch`` or ``torchrun`` has started, if any.

    Args:
        sharding: Whether weights are shared out; also by ``accelerate launch --use_fsdp``.
        precision: Of matrix products and convolutions.
        accumulation: Forward passes a step.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
    from torch.distributed.fsdp import MixedPrecisionPolicy

    plugin = None
    if sharding == "fsdp2" or os.environ.get("ACCELERATE_USE_FSDP") == "true":
        plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2,
            auto_wrap_policy="no_wrap",
            # Autocast alone decides what is computed in which precision, as without sharding.
            mixed_precision_policy=MixedPrecisionPolicy(cast_forward_inputs=False),
            # Every process makes the same weights from the seed.
            cpu_ram_efficient_loading=False,
            activation_checkpointing=False,
        )
    accelerator = Accelerator(
        # Several processes on a machine without a GPU: it has to be told.
        cpu=not torch.accelerator.is_available(),
        mixed_precision=precision,
        gradient_accumulation_steps=accumulation,
        fsdp_plugin=plugin,
        # The original layout holds an embedder that no forward pass uses.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    if plugin is not None and accelerator.distributed_type == DistributedType.MULTI_CPU:
        # Left to itself accelerate shards on GPUs only; torch does on CPUs as well.
        accelerator.state.distributed_type = DistributedType.FSDP
        accelerator.state.fsdp_plugin = plugin
    if plugin is not None and accelerator.num_processes == 1:
        warnings.warn(
            "nothing is sharded in a single process: start several with accelerate launch",
            stacklevel=2,
        )
    return accelerator


def prepare(
    accelerator: Accelerator, objective: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[nn.Module, torch.optim.Optimizer]:
    """The objective as several processes call it, and the optimiser of what each holds."""
    if accelerator.is_fsdp2:
        for parameter in objective.parameters():
            # Shares are cut along the first axis and have to lie in one piece.
            parameter.data = parameter.data.contiguous()
    model, stepping = accelerator.prepare(objective, optimizer)
    return model, stepping


def local(x: Tensor) -> Tensor:
    """This process's share of a sharded tensor, or all of another; it shares their memory."""
    return x.to_local() if isinstance(x, DTensor) else x


def gather(tree: Any, keep: bool) -> Any:
    """The same with tensors whole and on the CPU; all processes have to ask together.

    Args:
        tree: Nested dicts, lists and tuples, equal on all processes but for the shares.
        keep: Whether this process wants them; otherwise None stands in their place.
    """
    if isinstance(tree, Mapping):
        return {key: gather(value, keep) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(gather(value, keep) for value in tree)
    if isinstance(tree, Tensor):
        whole = tree.full_tensor() if isinstance(tree, DTensor) else tree
        return whole.detach().cpu() if keep else None
    return tree


def shard(whole: Tensor, like: Tensor | None) -> Tensor:
    """A whole tensor, shared out as ``like`` is; nothing is sent, as every process has it."""
    if not isinstance(like, DTensor):
        return whole
    placed = whole.to(like.device)
    return distribute_tensor(placed, like.device_mesh, like.placements, src_data_rank=None)


def load_weights(module: nn.Module, whole: Mapping[str, Tensor]) -> None:
    """Load a whole state into a module whose weights may be sharded."""
    shares = module.state_dict()
    module.load_state_dict({name: shard(x, shares.get(name)) for name, x in whole.items()})


def load_optimizer(optimizer: torch.optim.Optimizer, whole: dict[str, Any]) -> None:
    """Load a whole state into an optimiser of weights that may be sharded."""
    parameters: Sequence[Tensor] = [p for group in optimizer.param_groups for p in group["params"]]
    moments = {
        index: {
            name: shard(x, parameters[index]) if x.shape == parameters[index].shape else x
            for name, x in state.items()
        }
        for index, state in whole["state"].items()
    }
    optimizer.load_state_dict({**whole, "state": moments})
