"""Several processes train as one would: who draws which rows, and what is counted over all.

Batches are counted over all processes together, and a row is the same whoever draws it: its data
and its noise follow from the seed, the step and its number in the batch. So the number of processes
is a matter of the hardware, as the number of threads is, and a run may go on with another one.

The gradients of the processes are averaged. A loss that is a mean over rows therefore needs nothing
more, as every process has as many rows; one that leaves some of them out has to be weighed by how
many the process counts against the others (`relative_to_mean`).

Several processes may also share the rows of one, as a team in which each has a slice of the clips'
time (`make_team`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from sanawm_gym.worldmodel.noise import mix_seed

Choice = TypeVar("Choice")
Gathered = TypeVar("Gathered")


def rows_of_rank(name: str, count: int, rank: int, num_ranks: int) -> range:
    """Numbers of the rows that process ``rank`` has: every ``num_ranks``-th.

    Args:
        name: Setting that says how many rows there are.
        count: Rows of all processes together.
        rank: Number of this process.
        num_ranks: Number of processes.

    Raises:
        ValueError: If the processes would not have equally many.
    """
    if count % num_ranks:
        raise ValueError(
            f"{name} is {count}, which {num_ranks} processes cannot share equally: it counts over "
            f"all of them together, expected a multiple of {num_ranks}"
        )
    return range(rank, count, num_ranks)


class Rows:
    """One process's rows of a batch, each with a random generator of its own.

    Args:
        numbers: The rows' numbers in the batch of all processes.
        seed: Seed of this batch; the same on all processes.

    Attributes:
        generators: A CPU generator a row.
    """

    def __init__(self, numbers: range, seed: int) -> None:
        self.generators = [
            torch.Generator().manual_seed(mix_seed(seed, number)) for number in numbers
        ]

    def pick(self, choices: Sequence[Choice]) -> list[Choice]:
        """One of the choices a row."""
        return [
            choices[int(torch.randint(len(choices), (), generator=each))]
            for each in self.generators
        ]

    def rand(self, *shape: int) -> Float[Tensor, "b ..."]:
        """Uniform numbers in [0, 1), of ``shape`` a row."""
        return torch.stack([torch.rand(shape, generator=each) for each in self.generators])

    def randn(self, *shape: int) -> Float[Tensor, "b ..."]:
        """Standard normal numbers, of ``shape`` a row."""
        return torch.stack([torch.randn(shape, generator=each) for each in self.generators])


def relative_to_mean(counts: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Counts of this process over their means over all processes; 0 where nobody counts any.

    Times a mean over the rows that a process counts, its mean over processes is the mean over the
    rows that all of them count. They have to ask at the same time.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return (counts > 0).to(counts)
    total = counts.clone()
    dist.all_reduce(total)
    return counts * dist.get_world_size() / total.clamp_min(1.0)


def make_team(size: int) -> dist.ProcessGroup:
    """The group of this process and those that share the time of its clips; all have to ask.

    Neighbours by rank make a team. Process number r is then in team r // size, and all of a team
    have the same rows of a batch.

    Args:
        size: Processes of a team, > 1.

    Raises:
        ValueError: If the processes do not make whole teams.
    """
    number = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    if number % size:
        raise ValueError(
            f"context_parallel is {size}, which {number} processes cannot make teams of: start a "
            f"multiple of {size} with accelerate launch, or leave it at 1"
        )
    teams = [dist.new_group(list(range(i, i + size))) for i in range(0, number, size)]
    mine: dist.ProcessGroup = teams[dist.get_rank() // size]
    return mine


def gather_objects(mine: Gathered) -> list[Gathered]:
    """What each process has, in their order; all of them have to ask together."""
    if not (dist.is_available() and dist.is_initialized()):
        return [mine]
    everybody: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everybody, mine)
    return everybody


def join_progress(parts: Sequence[dict[Any, Any]]) -> dict[Any, Any]:
    """The processes' dicts as one, joined at every depth; leaves that meet are equal."""
    joined: dict[Any, Any] = {}
    for part in parts:
        for key, value in part.items():
            if isinstance(value, dict) and isinstance(joined.get(key), dict):
                joined[key] = join_progress([joined[key], value])
            else:
                joined[key] = value
    return joined
