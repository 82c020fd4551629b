"""The state of a generated world: a value that can be copied, split, joined, saved and moved."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors.torch import save_file
from torch import Tensor

from sanawm_gym.worldmodel.cross_attention import TextContext
from sanawm_gym.worldmodel.refiner.stream import RefinedStream
from sanawm_gym.worldmodel.state import SanaWMState


@dataclass(frozen=True)
class WorldState:
    """Everything a world remembers of b drives; its size does not grow with time."""

    network: SanaWMState
    """Recurrent states, convolution tails and attention windows, in the moved origin."""
    text: TextContext
    """Encoded prompts."""
    decoder: tuple[Tensor, ...]
    """Last input frame of every causal layer of the decoder."""
    latent: Float[Tensor, "b c y x"]
    """Latest latent frame, float32."""
    picture: Float[Tensor, "b 3 h w"]
    """Last raw frame as decoded, in [-1, 1]."""
    last_pose: Float[Tensor, "b 4 4"]
    """world_from_camera of the last raw frame [m], float64: the origin of ``network``."""
    intrinsics: Float[Tensor, "b 4"]
    """fx, fy, cx, cy in pixels, float64."""
    seeds: Int[Tensor, " b"]
    """Seed of every row's noise."""
    steps: Int[Tensor, " b"]
    """Steps every row has taken."""
    features: Float[Tensor, "b s e"] | None = None
    """What the clean pass left of every token of the latest latent frame, from which heads read;
    None in worlds without heads."""
    refined: RefinedStream | None = None
    """What is shown in place of the draft, and its memory; None where nothing is refined."""

    @property
    def batch_size(self) -> int:
        """Rows b."""
        return self.latent.shape[0]

    @property
    def num_bytes(self) -> int:
        """Size of all tensors [bytes]."""
        return sum(t.numel() * t.element_size() for t in self.tensors().values())

    def select(self, indices: Sequence[int]) -> WorldState:
        """Copy rows; a row named twice is a fork."""
        rows = torch.as_tensor(list(indices), dtype=torch.int64)
        return WorldState(
            network=self.network.select(indices),
            text=self.text.select(indices),
            decoder=tuple(t[rows.to(t.device)] for t in self.decoder),
            latent=self.latent[rows.to(self.latent.device)],
            picture=self.picture[rows.to(self.picture.device)],
            last_pose=self.last_pose[rows],
            intrinsics=self.intrinsics[rows],
            seeds=self.seeds[rows],
            steps=self.steps[rows],
            features=None
            if self.features is None
            else self.features[rows.to(self.features.device)],
            refined=None if self.refined is None else self.refined.select(indices),
        )

    @staticmethod
    def concat(states: Sequence[WorldState]) -> WorldState:
        """Join the rows of several states, in order.

        Raises:
            ValueError: If there is none, or only some are of a world with heads or a refiner.
        """
        if not states:
            raise ValueError("got no states, expected at least one")
        features = [s.features for s in states if s.features is not None]
        if features and len(features) < len(states):
            raise ValueError("got states of worlds with and without heads, expected one world's")
        refined = [s.refined for s in states if s.refined is not None]
        if refined and len(refined) < len(states):
            raise ValueError("got states with and without a refiner, expected one world's")
        return WorldState(
            network=SanaWMState.concat([s.network for s in states]),
            text=TextContext.concat([s.text for s in states]),
            decoder=tuple(
                torch.cat(parts) for parts in zip(*(s.decoder for s in states), strict=True)
            ),
            latent=torch.cat([s.latent for s in states]),
            picture=torch.cat([s.picture for s in states]),
            last_pose=torch.cat([s.last_pose for s in states]),
            intrinsics=torch.cat([s.intrinsics for s in states]),
            seeds=torch.cat([s.seeds for s in states]),
            steps=torch.cat([s.steps for s in states]),
            features=torch.cat(features) if features else None,
            refined=RefinedStream.concat(refined) if refined else None,
        )

    def to(self, device: torch.device | str) -> WorldState:
        """Move to a device; poses, seeds and counters stay on the CPU."""
        return WorldState(
            network=self.network.to(device),
            text=self.text.to(device),
            decoder=tuple(t.to(device) for t in self.decoder),
            latent=self.latent.to(device),
            picture=self.picture.to(device),
            last_pose=self.last_pose,
            intrinsics=self.intrinsics,
            seeds=self.seeds,
            steps=self.steps,
            features=None if self.features is None else self.features.to(device),
            refined=None if self.refined is None else self.refined.to(device),
        )

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name."""
        named = {
            "latent": self.latent,
            "picture": self.picture,
            "last_pose": self.last_pose,
            "intrinsics": self.intrinsics,
            "seeds": self.seeds,
            "steps": self.steps,
        }
        if self.features is not None:
            named["features"] = self.features
        if self.refined is not None:
            named.update({f"refined.{k}": t for k, t in self.refined.tensors().items()})
        named.update({f"decoder.{i}": t for i, t in enumerate(self.decoder)})
        named.update({f"network.{k}": t for k, t in self.network.tensors().items()})
        named.update({f"text.{k}": t for k, t in self.text.tensors().items()})
        return named

    def with_tensors(self, tensors: dict[str, Tensor]) -> WorldState:
        """A state of the same world that holds what :meth:`tensors` once gave.

        Raises:
            ValueError: If the tensors belong to another world.
        """
        parts: dict[str, dict[str, Tensor]] = {
            name: {} for name in ("decoder", "network", "text", "refined")
        }
        plain: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            head, _, tail = name.partition(".")
            if tail:
                parts[head][tail] = tensor
            else:
                plain[name] = tensor
        decoder = parts["decoder"]
        return WorldState(
            network=self.network.with_tensors(parts["network"]),
            text=TextContext.from_tensors(parts["text"]),
            decoder=tuple(decoder[str(i)] for i in range(len(decoder))),
            refined=RefinedStream.from_tensors(parts["refined"]) if parts["refined"] else None,
            **plain,
        )

    def save(self, path: str | Path) -> None:
        """Write to a safetensors file, replaced whole; :meth:`with_tensors` takes it back."""
        target = Path(path)
        partial = target.with_suffix(".partial")
        save_file({k: t.contiguous().cpu().clone() for k, t in self.tensors().items()}, partial)
        os.replace(partial, target)
