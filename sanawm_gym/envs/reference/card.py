"""The dataset card of a recording: what is in it, counted from its own tables."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sanawm_gym.episodes import EpisodeDataset

_NAMES = ["episode", "speed", "lane_offset", "heading_error", "on_road", "crashed"]


def write_card(root: Path) -> None:
    """Write README.md beside the shards."""
    dataset = EpisodeDataset(root)
    table = pa.concat_tables(
        [pq.read_table(path, columns=_NAMES) for path in sorted(root.glob("shard-*.parquet"))]
    )
    column = {name: table[name].to_numpy() for name in _NAMES}
    policies = Counter(info.policy for info in dataset.episodes)
    info, speed = dataset.info, column["speed"]
    crashes = len(np.unique(column["episode"][column["crashed"]]))
    aside = 100 * (np.abs(column["lane_offset"]) > 1.0).mean()
    askew = 100 * (np.abs(column["heading_error"]) > math.radians(10.0)).mean()
    quantiles = np.quantile(speed, [0.05, 0.5, 0.95])
    captions = "\n".join(f"- {episode.caption}" for episode in dataset.episodes[:8])
    (root / "README.md").write_text(f"""# Drives through reference worlds

{len(dataset)} drives, {dataset.num_frames} frames of {info.width} x {info.height} at {info.fps:g}
Hz ({dataset.num_frames / info.fps / 3600:.2f} h), every drive in a world of its own. Drawn and
simulated: no camera recorded it and no person is in it. Seed {info.seed}; at most {info.seconds:g}
s a drive.

| | |
|---|---|
| drivers | {", ".join(f"{name} {count}" for name, count in sorted(policies.items()))} |
| speed, 5 / 50 / 95 % | {quantiles[0]:.1f} / {quantiles[1]:.1f} / {quantiles[2]:.1f} m/s |
| middle of the car on the road | {100 * column["on_road"].mean():.1f} % of frames |
| more than 1 m off the lane's middle | {aside:.1f} % of frames |
| more than 10 degrees off its heading | {askew:.1f} % of frames |
| drives that end in a crash | {crashes} |

Layout: `dataset.json`; `shard-*/episode-*.mp4` (h264, 4:4:4); `shard-*.parquet`, one row a frame:
pose `c2w` (world_from_camera, OpenCV axes, metres), `intrinsics` (fx, fy, cx, cy in pixels),
`action` (that led to the frame), `expert_action`, ego state, truth, caption, policy, world seed.
Read it with `sanawm_gym.episodes.EpisodeDataset`.

Captions such as:

{captions}
""")
