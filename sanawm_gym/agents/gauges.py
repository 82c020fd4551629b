"""Gauges: a way past the layers of a driver, by which observed numbers act on its actions.

A cloned driver looks at pictures; of the speed it knows little more than that there is one. Its
last layer reads features that tell roads apart, and no sum of them says "above 14 m/s". Gauges say
so. A number x, freed of the mean and spread that it had in the driver's first rollout, becomes
tanh(x - c) at marks c spread evenly over -2 to 2, and one linear layer reads all of them: it can
follow any smooth function of one number where the driver drives. All its weights begin at 0, so a
driver that is given gauges drives exactly as before until it has learnt what they are good for.

Axes: b cars, n numbers, a action numbers.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

OUTERMOST = 2.0
"""Of the marks, in spreads from the mean."""
SMALLEST = 1e-3
"""Spread below which a number counts as one that never changes and keeps its unit."""


class Gauges(nn.Module):
    """What the gauges of a driver add to what its last layer says.

    Args:
        numbers: How many are observed, >= 1.
        marks: On the scale of each, >= 2.
        actions: Numbers of an action.
    """

    def __init__(self, numbers: int, marks: int, actions: int) -> None:
        super().__init__()
        self.dials = nn.Linear(numbers * marks, actions, bias=False)
        nn.init.zeros_(self.dials.weight)
        self.mean: Tensor
        self.spread: Tensor
        self.marks: Tensor
        self.is_measured: Tensor
        self.register_buffer("mean", torch.zeros(numbers))
        self.register_buffer("spread", torch.ones(numbers))
        self.register_buffer("is_measured", torch.tensor(False))
        marked = torch.linspace(-OUTERMOST, OUTERMOST, marks)
        self.register_buffer("marks", marked, persistent=False)

    def measure(self, seen: Float[Tensor, "b n"]) -> None:
        """Take mean and spread from examples, once: weights that were learnt belong to them."""
        if not self.is_measured:
            mean, spread = mean_and_spread(seen)
            self.mean.copy_(mean)
            self.spread.copy_(spread)
            self.is_measured.fill_(True)

    def forward(self, seen: Float[Tensor, "b n"]) -> Float[Tensor, "b a"]:
        """What is added to the actions before their bounds."""
        evened = (seen - self.mean) / self.spread
        added: Tensor = self.dials(torch.tanh(evened[:, :, None] - self.marks).flatten(1))
        return added


def mean_and_spread(
    seen: Float[Tensor, "b n"],
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Of every number; 1 for the spread of one that never changes."""
    spread, mean = torch.std_mean(seen, dim=0, correction=0)
    return mean, torch.where(spread > SMALLEST, spread, 1.0)
