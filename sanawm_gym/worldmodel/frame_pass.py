"""What one call of the network shares between its blocks: geometry, chunks and bookkeeping.

Built once per call, so that rotary tables, ray operators and window masks are not made per block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .camera_condition import CameraCondition
from .config import SanaWMConfig
from .ops.frame_gdn import ClipSlices
from .rope import rotary_tables
from .state import SanaWMState, window_valid
from .ucpe import OriginMatrices, RayOperators, invert_rigid, origin_matrices, ray_operators

Keep = Literal["nothing", "last", "every"]


@dataclass(frozen=True, kw_only=True)
class WindowMoves:
    """How the softmax windows of an unroll follow from one sequence of frames.

    The sequence is [sink cache | sliding cache | new frames]; slot j of the window that frame i
    sees is entry `source[b, i, j]` of it, moved by the origin matrices.
    """

    source: Int[Tensor, "b t f"]
    moves: OriginMatrices | None


@dataclass(frozen=True, kw_only=True)
class FramePass:
    """Shared data of one call over t latent frames.

    Attributes:
        config: Of the network.
        grid: Rows and columns.
        chunks: Chunk sizes.
        slices: Which rank holds which frames of a clip that is spread over several, else None. The
            t frames are then this rank's, the chunks those of the whole clip.
        keep: States to return: none, after the last frame, or also before every frame.
        rotary: Main rotary table, b t s 1 d/2.
        rays: Ray operators, or None without a camera or with `config.ucpe` off.
        known: Rows whose camera counts, or None if all do; see `CameraCondition.known`.
        moves: Moves of the origin before every frame (b t d d), or None.
        windows: Window layout of an unroll, else None.
        visible: Valid slots of the softmax windows before each frame (b t f) or the chunk (b f).
        is_first: Rows that write their first chunk now.
        sink_move: What becomes of the first frame as it enters a shifted sink, or None.
    """

    config: SanaWMConfig
    grid: tuple[int, int]
    chunks: tuple[int, ...]
    keep: Keep
    rotary: Tensor
    rays: RayOperators | None
    known: Bool[Tensor, " b"] | None = None
    moves: OriginMatrices | None = None
    windows: WindowMoves | None = None
    visible: Bool[Tensor, "*n f"] | None = None
    is_first: Bool[Tensor, " b"] | None = None
    sink_move: OriginMatrices | None = None
    slices: ClipSlices | None = None


def build_pass(
    x: Float[Tensor, "b c t h w"],
    camera: CameraCondition | None,
    config: SanaWMConfig,
    chunks: tuple[int, ...],
    *,
    state: SanaWMState | None = None,
    keep: Keep = "nothing",
    transport: Float[Tensor, "b t 4 4"] | None = None,
    slices: ClipSlices | None = None,
) -> FramePass:
    """Prepare a call; see `FramePass`."""
    num_clips, _, num_frames, rows, columns = x.shape
    grid = (rows, columns)
    dtype = torch.promote_types(x.dtype, torch.float32)
    start = torch.zeros(num_clips, dtype=torch.long, device=x.device)
    if state is not None:
        start = state.frame_index
    if slices is not None:
        start = start + slices.span(slices.rank)[0]
    index = start[:, None] + torch.arange(num_frames, device=x.device)
    moves, shift = None, None
    if transport is not None:
        # Every frame is number 0 of its own origin; its past is renumbered by -1 per frame.
        shift = torch.full_like(index, -1)
        shift[:, 0] = -start
        index = torch.zeros_like(index)
        pose = in_camera_units(transport.to(torch.float64), config)
        moves = origin_matrices(pose, shift, config.head_dim)
    table_dtype = torch.float64 if config.rope_dtype == "float64" else dtype
    tables = rotary_tables(index, grid, config.head_dim, table_dtype)
    rays = None
    if camera is not None and config.ucpe:
        pose = in_camera_units(camera.world_from_camera.to(dtype), config)
        rays = ray_operators(pose, camera.intrinsics.to(dtype), grid, tables.camera)
    windows, visible, is_first, sink_move = None, None, None, None
    if state is not None:
        if config.shifted_sink and keep != "nothing":
            sink_move = _sink_move(config, x.device)
        is_first = state.num_chunks == 0
        num_slots = window_length(state)
        if keep == "every" and num_slots:
            counts = state.num_chunks[:, None] + torch.arange(num_frames, device=x.device)
            visible = window_valid(counts, num_slots, config)
            windows = _window_moves(is_first, num_slots, num_frames, config, transport, shift)
        elif num_slots and not state.filled:
            visible = window_valid(state.num_chunks, num_slots, config)
    return FramePass(
        config=config, grid=grid, chunks=chunks, keep=keep, rotary=tables.main, rays=rays,
        known=None if camera is None else camera.known,
        moves=moves, windows=windows, visible=visible, is_first=is_first,
        sink_move=sink_move, slices=slices,
    )  # fmt: skip


def _sink_move(config: SanaWMConfig, device: torch.device) -> OriginMatrices:
    still = torch.eye(4, dtype=torch.float64, device=device)[None]
    shift = torch.full((1,), config.sink_shift, device=device)
    return origin_matrices(still, shift, config.head_dim)


def in_camera_units(pose: Tensor, config: SanaWMConfig) -> Tensor:
    """Divide the translation of poses in metres by the camera unit."""
    if config.camera_unit_m == 1.0:
        return pose
    scale = pose.new_ones(4, 4)
    scale[:3, 3] = 1.0 / config.camera_unit_m
    return pose * scale


def window_length(state: SanaWMState) -> int:
    """Frames in the softmax windows of a state; 0 if the network has no softmax block."""
    for block in state.blocks:
        key: Tensor | None = getattr(block.attention, "key", None)
        if key is not None:
            return key.shape[1]
    return 0


def _window_moves(
    is_first: Tensor,
    num_slots: int,
    num_frames: int,
    config: SanaWMConfig,
    transport: Tensor | None,
    shift: Tensor | None,
) -> WindowMoves:
    """Layout for an unroll of single-frame chunks."""
    device = is_first.device
    sink = config.sink_frames
    frame = torch.arange(num_frames, device=device)[:, None]
    slot = torch.arange(num_slots, device=device)
    # The sliding part of frame i ends with frame i - 1, i.e. with entry num_slots + i - 1.
    source = (slot + frame).expand(is_first.shape[0], -1, -1).clone()
    own_sink = is_first[:, None] & (frame[:, 0] > 0)
    source[..., :sink] = torch.where(own_sink, num_slots, 0)[..., None]
    if transport is None or shift is None:
        return WindowMoves(source=source, moves=None)
    # Move from the incoming origin to that of frame i, and from that of frame j to that of frame i.
    total = [in_camera_units(transport[:, 0].to(torch.float64), config)]
    for i in range(1, num_frames):
        total.append(in_camera_units(transport[:, i].to(torch.float64), config) @ total[-1])
    to_frame = torch.stack(total, dim=1)
    from_entry = torch.cat(
        [torch.eye(4, dtype=torch.float64, device=device).expand(len(is_first), num_slots, 4, 4),
         invert_rigid(to_frame)], dim=1,
    )  # fmt: skip
    shifts = shift.cumsum(dim=1)
    entry_shift = torch.cat([shifts.new_zeros(len(is_first), num_slots), shifts], dim=1)
    row = torch.arange(len(is_first), device=device)[:, None, None]
    relative = to_frame[:, :, None] @ from_entry[row, source]
    relative_shift = shifts[..., None] - entry_shift[row, source]
    if config.shifted_sink:
        # Where the camera has been since does not touch it; one from the cache is in its place.
        relative[:, :, :sink] = torch.eye(4, dtype=relative.dtype, device=device)
        relative_shift[:, :, :sink] = torch.where(own_sink, config.sink_shift, 0)[..., None]
    return WindowMoves(
        source=source, moves=origin_matrices(relative, relative_shift, config.head_dim)
    )
