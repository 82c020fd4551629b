"""The dataset card of an ingest: what is in it, counted from its own tables."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64

from sanawm_gym.camera import Intrinsics
from sanawm_gym.episodes import EpisodeDataset

from .ledger import Ledger

_SHOWN = 20


def write_card(
    ledger: Ledger, camera_height: float, terms: str, skipped: Mapping[str, str]
) -> None:
    """Write README.md beside the shards.

    Args:
        ledger: What is done.
        camera_height: Of all drives [m].
        terms: Rights in the pictures.
        skipped: Drives that could not be used, with the reason.
    """
    dataset = EpisodeDataset(ledger.root)
    info = dataset.info
    rows = [
        dataset.columns(episode.index, names=["speed", "yaw_rate", "intrinsics"])
        for episode in dataset.episodes
    ]
    speed = np.quantile(np.concatenate([row["speed"] for row in rows]), [0.05, 0.5, 0.95])
    turn = np.degrees(np.quantile(np.abs(np.concatenate([r["yaw_rate"] for r in rows])), 0.95))
    fields = [_fov_deg(row["intrinsics"][0], info.width, info.height) for row in rows]
    captions = sorted({episode.caption for episode in dataset.episodes})
    left_out = [f"- `{name}`: {reason}" for name, reason in sorted(skipped.items())]
    text = f"""# Drives of layout {ledger.options["layout"]}

{len(dataset)} episodes, {dataset.num_frames} frames of {info.width} x {info.height} at {info.fps:g}
Hz ({dataset.num_frames / info.fps / 3600:.2f} h), from {len(ledger.drives)} drives; at most
{info.seconds:g} s an episode. Converted by `sanawm-gym ingest`.

{terms}

| | |
|---|---|
| speed, 5 / 50 / 95 % | {speed[0]:.1f} / {speed[1]:.1f} / {speed[2]:.1f} m/s |
| yaw rate, 95 % | {turn:.1f} degrees/s |
| horizontal field of view | {min(fields):.1f} to {max(fields):.1f} degrees |
| camera above the road | {camera_height:g} m, as stated |

Layout: `dataset.json`; `shard-*/episode-*.mp4` (h264, 4:4:4); `shard-*.parquet`, one row a frame;
`ingest.json`, the drive of every shard. Read it with `sanawm_gym.episodes.EpisodeDataset`.

- `c2w` is world_from_camera with OpenCV axes in metres, of the moment the row's picture was taken.
  Every episode has a world frame of its own: z up, the road at z = 0, hills pulled flat.
- `speed`, `acceleration`, `yaw_rate`, `x`, `y`, `yaw` are the camera's, along and across its
  heading; `steer` is the angle at which the gym's own car would go round the same bend.
- NaN, because nobody knows them: `action`, `expert_action`, `lane_offset`, `heading_error`,
  `curvature_ahead`, `left_edge`, `right_edge`, `lead_distance`, `lead_speed`. No driver can be
  cloned from this. `on_road` is true and `crashed` false without anybody having looked.

Captions such as:

{chr(10).join(f"- {caption}" for caption in captions[:_SHOWN])}
"""
    if left_out:
        text += f"\nLeft out, {len(left_out)}:\n\n" + "\n".join(left_out[:_SHOWN]) + "\n"
    partial = ledger.root / f"README.md.{os.getpid()}.partial"
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, ledger.root / "README.md")


def _fov_deg(numbers: Float64[np.ndarray, " 4"], width: int, height: int) -> float:
    fx, fy, cx, cy = numbers.tolist()
    return Intrinsics(fx, fy, cx, cy, width, height).horizontal_fov_deg
