"""A stream of the released network without end: its origin follows the camera.

Released streams tell every camera in the origin of the first picture. That is what the network was
trained on, over a minute at walking pace. Far from it ray maps, keys and values are as large as the
way: beside a map of 1e4, added in every block, a token's own content falls below the steps of
bfloat16, scores are differences of numbers of that size, and recurrent blocks discount what they
write by its square. So once the camera is further than `SamplingConfig.reach` from the origin,
the origin moves under the newest picture, and what is remembered is told in it. With G the new
coordinates of the old origin:

| what | becomes | exact? |
|---|---|---|
| main branch, short convolutions, MLP | unchanged; frames keep their number | yes |
| camera keys and values of recent frames | G k, G v on the ray half | yes, to rounding |
| camera matrices of recurrent blocks | E S E^T, E = G on the ray half | as read now: yes |
| what these erase and discount later | measured in the new origin | no, unless G only turns |
| ray (Plücker) maps of later frames | told in the new origin | no: o x d depends on it |
| camera keys and values of the sink | see below | up to `reach` |

`SanaWMState.reanchor` says why erasures differ. The sink, the first chunk, would stand ever further
behind, and its scores would grow with the way until it alone were read. It is told to stand in the
true direction, but never further than `reach`: exact until then, held at that distance after.
Heads whose camera matrix has entries beyond the square of `reach` are scaled down to it: straight
on, moves and erasures together outgrow the gates (measured: 1e25 after 60 moves of 168 m).

A drive that stays within `reach` of its first picture is the released one, bit for bit.

Axes: b rows, f frames of a window, s tokens, h heads, d channels of a head.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sanawm_gym.worldmodel.frame_pass import in_camera_units
from sanawm_gym.worldmodel.precision import exact
from sanawm_gym.worldmodel.state import (
    AttentionState,
    BlockState,
    GDNState,
    SanaWMState,
    WindowState,
    limit_entries,
    move_frames,
)
from sanawm_gym.worldmodel.ucpe import invert_rigid, origin_matrices

from .state import OfficialState


def follow(state: OfficialState, reach: float | None) -> OfficialState:
    """The same streams, those that are far from their origin told in one under their camera.

    Args:
        state: Left unchanged, and returned as it is where every camera is near.
        reach: Distance from which on an origin moves, in units of the network's camera (1 m in
            the release); None never moves one.
    """
    if reach is None:
        return state
    reach_m = reach * state.network.config.camera_unit_m
    way = state.last_pose[:, :3, 3] - state.origin[:, :3, 3]
    far = way.norm(dim=-1) > reach_m
    if not bool(far.any()):
        return state
    origin = torch.where(far[:, None, None], state.last_pose, state.origin)
    sink = _within(invert_rigid(origin) @ state.begin, reach_m)
    sink = torch.where(far[:, None, None], sink, state.sink)
    moves = _kept(invert_rigid(origin) @ state.origin, far)
    sink_moves = _kept(sink @ invert_rigid(state.sink), far)
    null = state.null_network
    return replace(
        state,
        network=moved(state.network, moves, sink_moves, reach**2),
        null_network=None if null is None else moved(null, moves, sink_moves, reach**2),
        origin=origin,
        sink=sink,
    )


def moved(
    state: SanaWMState,
    new_from_old: Float[Tensor, "b 4 4"],
    sink_move: Float[Tensor, "b 4 4"],
    limit: float,
) -> SanaWMState:
    """A network's memory in another origin, its sink moved otherwise.

    Args:
        state: Left unchanged.
        new_from_old: Maps old world coordinates to new ones, translation in metres.
        sink_move: The same for the frames of the sink.
        limit: Largest entry that a head's camera matrix keeps in rows that move.
    """
    config, device = state.config, state.frame_index.device
    still = torch.zeros_like(state.frame_index)
    stays = (new_from_old == torch.eye(4, dtype=new_from_old.dtype)).flatten(1).all(dim=1)
    stays = stays.to(device)[:, None, None, None]

    def matrices(move: Tensor) -> Tensor:
        pose = in_camera_units(move.to(device, torch.float64), config)
        return origin_matrices(pose, still, config.head_dim).camera

    recent, sink = matrices(new_from_old), matrices(sink_move)
    blocks = []
    for block in state.blocks:
        attention = _moved_attention(block.attention, recent, sink, config.sink_frames)
        if isinstance(attention, GDNState):
            matrix = attention.camera_matrix
            limited = torch.where(stays, matrix, limit_entries(matrix, limit))
            attention = replace(attention, camera_matrix=limited)
        blocks.append(BlockState(attention=attention, mlp_left=block.mlp_left))
    return replace(state, blocks=tuple(blocks))


def _moved_attention(
    state: AttentionState,
    recent: Float[Tensor, "b d d"],
    sink: Float[Tensor, "b d d"],
    num_sink: int,
) -> AttentionState:
    if isinstance(state, GDNState):
        both = recent.to(state.camera_matrix.dtype)[:, None]
        with exact(both.device):
            matrix = both @ state.camera_matrix @ both.transpose(-1, -2)
        return replace(state, camera_matrix=matrix)
    frames = state.camera_key.shape[1]
    first = sink[:, None].expand(-1, num_sink, -1, -1)
    later = recent[:, None].expand(-1, frames - num_sink, -1, -1)
    matrices = torch.cat([first, later], dim=1)
    return WindowState(
        key=state.key,
        value=state.value,
        camera_key=move_frames(state.camera_key, matrices),
        camera_value=move_frames(state.camera_value, matrices),
    )


def _kept(move: Float[Tensor, "b 4 4"], moves: Bool[Tensor, " b"]) -> Float[Tensor, "b 4 4"]:
    """Moves of some rows; of the others exactly none."""
    return torch.where(moves[:, None, None], move, torch.eye(4, dtype=move.dtype))


def _within(pose: Float[Tensor, "b 4 4"], reach_m: float) -> Float[Tensor, "b 4 4"]:
    """Poses brought to within a distance of the origin, along the line to it."""
    near = pose.clone()
    distance = pose[:, :3, 3].norm(dim=-1, keepdim=True)
    near[:, :3, 3] *= (reach_m / distance).clamp(max=1.0)
    return near
