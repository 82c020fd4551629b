"""What a stream remembers: an explicit value, one row per clip, whose size does not grow with time.

Per block: a GDN block keeps its recurrent matrices (float32) and the last inputs of its short
convolutions; a softmax block keeps keys and values of a fixed number of frames (first the sink,
then the sliding part, newest last); both keep the last frame for the MLP's temporal convolution.
Which slots of a softmax window hold something follows from `num_chunks`, so rows of different ages
can stand in one batch. Nothing here is ever changed in place: a state can be kept, forked and
restored.

Axes: b rows, h heads, d channels of a head, p frames of a convolution's past, f frames of a window,
s tokens of a frame, c channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeAlias, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .config import SanaWMConfig
from .precision import exact
from .ucpe import origin_matrices

PartT = TypeVar("PartT", "GDNState", "WindowState")


@dataclass(frozen=True, kw_only=True)
class GDNState:
    """Memory of a GDN block. Matrices have keys on the rows and values on the columns."""

    matrix: Float[Tensor, "b h d d"]
    mass: Float[Tensor, "b h d 1"]
    camera_matrix: Float[Tensor, "b h d d"]
    key_tail: Float[Tensor, "b p s c"]
    camera_key_tail: Float[Tensor, "b p s c"]


@dataclass(frozen=True, kw_only=True)
class WindowState:
    """Memory of a softmax block: keys after RoPE, camera keys and values after UCPE.

    The axes before f are rows: b, or b t while the windows of all frames of an unroll are formed.
    """

    key: Float[Tensor, "*b f s h d"]
    value: Float[Tensor, "*b f s h d"]
    camera_key: Float[Tensor, "*b f s h d"]
    camera_value: Float[Tensor, "*b f s h d"]


AttentionState: TypeAlias = GDNState | WindowState


@dataclass(frozen=True, kw_only=True)
class BlockState:
    """Memory of one block: its attention, and its MLP's last frame before the temporal filter."""

    attention: AttentionState
    mlp_left: Float[Tensor, "b s c"]


def map_part(part: PartT, function: Callable[[Tensor], Tensor]) -> PartT:
    """Apply a function to every tensor of an attention state."""
    changes = {field.name: function(getattr(part, field.name)) for field in fields(part)}
    return replace(part, **changes)


def map_block(block: BlockState, function: Callable[[Tensor], Tensor]) -> BlockState:
    """Apply a function to every tensor of a block's state."""
    attention: AttentionState
    if isinstance(block.attention, GDNState):
        attention = map_part(block.attention, function)
    else:
        attention = map_part(block.attention, function)
    return BlockState(attention=attention, mlp_left=function(block.mlp_left))


@dataclass(frozen=True, kw_only=True)
class SanaWMState:
    """Memory of a stream, a row per clip.

    Attributes:
        config: Of the network that wrote it.
        grid: Rows and columns of the latent grid.
        frame_index: Rotary position that the next latent frame gets.
        num_chunks: Chunks written so far.
        blocks: One entry per block.
        filled: The caller's word that every slot of every softmax window holds something, so that
            attention needs no mask; False looks at `num_chunks`.
    """

    config: SanaWMConfig
    grid: tuple[int, int]
    frame_index: Int[Tensor, " b"]
    num_chunks: Int[Tensor, " b"]
    blocks: tuple[BlockState, ...]
    filled: bool = False

    @property
    def batch_size(self) -> int:
        """Number of rows."""
        return self.frame_index.shape[0]

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(x.numel() * x.element_size() for x in self.tensors().values())

    @property
    def _fixed_frames(self) -> int:
        """Leading frames of softmax windows that moves of the origin leave alone."""
        return self.config.sink_frames if self.config.shifted_sink else 0

    def map(self, function: Callable[[Tensor], Tensor]) -> SanaWMState:
        """Apply a function to every tensor, counters included."""
        return replace(
            self,
            frame_index=function(self.frame_index),
            num_chunks=function(self.num_chunks),
            blocks=tuple(map_block(block, function) for block in self.blocks),
        )

    def select(self, indices: Sequence[int] | Tensor) -> SanaWMState:
        """Copy rows; an index may repeat, which forks that row."""
        rows = torch.as_tensor(indices, dtype=torch.long, device=self.frame_index.device)
        return self.map(lambda x: x.index_select(0, rows))

    @staticmethod
    def concat(states: Sequence[SanaWMState]) -> SanaWMState:
        """Stack the rows of several states.

        Raises:
            ValueError: If there is none, or they differ in network, grid or window length.
        """
        if not states:
            raise ValueError("got no states to concatenate, expected at least one.")
        flat = [state.tensors() for state in states]
        shapes = [{name: x.shape[1:] for name, x in tensors.items()} for tensors in flat]
        if any(s.config != states[0].config or s.grid != states[0].grid for s in states) or any(
            shape != shapes[0] for shape in shapes
        ):
            raise ValueError(
                "got states of different networks, grids or window lengths; expected states that "
                "differ only in their rows."
            )
        joined = {name: torch.cat([tensors[name] for tensors in flat]) for name in flat[0]}
        filled = all(state.filled for state in states)
        return replace(states[0].with_tensors(joined), filled=filled)

    def detach(self) -> SanaWMState:
        """The same values outside the autograd graph."""
        return self.map(lambda x: x.detach())

    def to(self, device: torch.device | str) -> SanaWMState:
        """The same values on another device."""
        return self.map(lambda x: x.to(device))

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name, for saving."""
        flat = {"frame_index": self.frame_index, "num_chunks": self.num_chunks}
        for i, block in enumerate(self.blocks):
            for field in fields(block.attention):
                flat[f"blocks.{i}.{field.name}"] = getattr(block.attention, field.name)
            flat[f"blocks.{i}.mlp_left"] = block.mlp_left
        return flat

    def with_tensors(self, tensors: dict[str, Tensor]) -> SanaWMState:
        """A state like this one holding the tensors that `tensors()` once gave.

        Raises:
            ValueError: If a name is missing or unknown.
        """
        expected = self.tensors().keys()
        if tensors.keys() != expected:
            odd = sorted(tensors.keys() ^ expected)
            raise ValueError(
                f"got state tensors that differ from the expected names in {odd[:4]}; "
                "the state belongs to another network."
            )
        blocks = []
        for i in range(len(self.blocks)):
            prefix = f"blocks.{i}."
            parts = {
                name.removeprefix(prefix): tensor
                for name, tensor in tensors.items()
                if name.startswith(prefix)
            }
            left = parts.pop("mlp_left")
            kind = type(self.blocks[i].attention)
            blocks.append(BlockState(attention=kind(**parts), mlp_left=left))
        return replace(
            self,
            frame_index=tensors["frame_index"],
            num_chunks=tensors["num_chunks"],
            blocks=tuple(blocks),
        )

    def reanchor(
        self, new_from_old: Float[Tensor, "b 4 4"], frame_shift: int | None = None
    ) -> SanaWMState:
        """Move the origin of the world and renumber the frames, in closed form.

        What is stored is keys and values in world coordinates, so a new origin G (new = G old)
        acts on them linearly: main keys turn by the shift of the frame index; camera keys and
        values move by G on their ray half and turn on the other; hence S -> L S for the main
        recurrence and S -> E S E^T for the camera one. Exact: every softmax read, the whole main
        branch (rotations commute with the delta rule), and the camera recurrence as it is read now.
        Not the same as staying in the old origin: what the camera recurrence erases *later*,
        because I - sum beta k k^T of keys G k is the conjugate by G of that of keys k only if G is
        a rotation. Later erasures act as if the clip had begun in the new origin. (The RMS clamp,
        where it is on, also depends on the origin.) Matrices beyond the config's
        `camera_state_limit` are scaled down to it.

        Args:
            new_from_old: Maps old world coordinates to new ones; rigid, translation in metres.
            frame_shift: Added to `frame_index`; None makes the next frame's index 0.
        """
        shift = (
            -self.frame_index
            if frame_shift is None
            else torch.full_like(self.frame_index, frame_shift)
        )
        pose = new_from_old.to(self.frame_index.device, torch.float64, copy=True)
        pose[:, :3, 3] /= self.config.camera_unit_m
        main, camera = origin_matrices(pose, shift, self.config.head_dim)
        blocks = []
        for block in self.blocks:
            attention = move_attention(block.attention, main, camera, self._fixed_frames)
            if isinstance(attention, GDNState) and self.config.camera_state_limit is not None:
                limited = limit_entries(attention.camera_matrix, self.config.camera_state_limit)
                attention = replace(attention, camera_matrix=limited)
            blocks.append(BlockState(attention=attention, mlp_left=block.mlp_left))
        return replace(self, frame_index=self.frame_index + shift, blocks=tuple(blocks))


def move_attention(
    state: AttentionState,
    main: Float[Tensor, "b d d"],
    camera: Float[Tensor, "b d d"],
    fixed_frames: int = 0,
) -> AttentionState:
    """Apply origin matrices to one block's memory; convolution inputs know no origin.

    Args:
        state: Memory of the block.
        main: On keys of the main branch.
        camera: On keys and values of the camera branch.
        fixed_frames: Leading frames of a softmax window that stay as they are.
    """
    if isinstance(state, GDNState):
        left = main.to(state.matrix.dtype)[:, None]
        both = camera.to(state.camera_matrix.dtype)[:, None]
        with exact(main.device):
            return replace(
                state,
                matrix=left @ state.matrix,
                camera_matrix=both @ state.camera_matrix @ both.transpose(-1, -2),
            )

    def move(x: Tensor, matrix: Tensor) -> Tensor:
        moved = move_frames(x[:, fixed_frames:], matrix[:, None])
        return torch.cat([x[:, :fixed_frames], moved], dim=1) if fixed_frames else moved

    return WindowState(
        key=move(state.key, main),
        value=state.value,
        camera_key=move(state.camera_key, camera),
        camera_value=move(state.camera_value, camera),
    )


def limit_entries(matrix: Float[Tensor, "b h d d"], limit: float) -> Float[Tensor, "b h d d"]:
    """Scale heads whose largest entry exceeds `limit` down to it; leave the others exactly."""
    largest = matrix.abs().amax(dim=(-2, -1), keepdim=True)
    return matrix * (limit / largest).clamp(max=1.0)


def move_frames(
    x: Float[Tensor, "*n s h d"], matrix: Float[Tensor, "*m d d"]
) -> Float[Tensor, "*n s h d"]:
    """Multiply stored keys or values by a matrix per leading index (broadcast)."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    rows = x.to(dtype).flatten(-3, -2)
    with exact(x.device):
        moved = rows @ matrix.to(dtype).transpose(-1, -2)
    frames: Tensor = moved.unflatten(-2, x.shape[-3:-1])
    return frames.to(x.dtype)


def window_valid(
    num_chunks: Int[Tensor, "*n"], num_frames: int, config: SanaWMConfig
) -> Bool[Tensor, "*n f"]:
    """Which frames of a softmax window hold something.

    The window is [sink | sliding part, newest last]. The sink fills with the first chunk; a frame
    shown by the sink is not shown again by the sliding part.

    Args:
        num_chunks: Chunks written so far.
        num_frames: Frames of the window.
        config: Gives sink and chunk sizes.
    """
    sink = config.sink_frames
    recent = num_frames - sink
    age = torch.arange(recent, 0, -1, device=num_chunks.device)
    longer = config.first_chunk_size - config.chunk_size
    written = torch.where(num_chunks > 0, num_chunks * config.chunk_size + longer, 0)
    sliding = age <= (written - sink)[..., None]
    kept = (num_chunks > 0)[..., None].expand(*num_chunks.shape, sink)
    return torch.cat([kept, sliding], dim=-1)
