"""Convert foreign drives into recordings, a drive a shard.

What is wrong with a drive is said with its name, and the next one is taken. A second run does what
is missing.
"""

from __future__ import annotations

from pathlib import Path

from tqdm import tqdm

from sanawm_gym.episodes import write_shard

from .card import write_card
from .config import IngestConfig, read_captions
from .drive import Layout
from .episode import plan, write_episodes
from .layouts import LAYOUTS
from .ledger import Ledger


def ingest(config: IngestConfig) -> Path:
    """Convert the drives that are missing and return the dataset's folder.

    Raises:
        ValueError: If the source holds no drive, none can be used, or the options are impossible.
    """
    layout = LAYOUTS[config.layout]
    names, camera_height = _names(config, layout), _camera_height(config, layout)
    captions = read_captions(config, names)
    ledger = Ledger.open(config)
    skipped: dict[str, str] = {}
    short = 0
    for name in tqdm(names, unit="drive", desc="ingest"):
        if name in ledger.drives:
            continue
        shard = len(ledger.drives)
        ledger.discard(shard)  # what an interrupted run left
        try:
            drive = layout.read(config, name)
            episodes, left_out = plan(drive, config, camera_height)
            columns = write_episodes(
                drive,
                episodes,
                config,
                shard=shard,
                first=ledger.num_episodes,
                caption=captions[name],
            )
        except ValueError as error:
            ledger.discard(shard)
            skipped[name] = " ".join(str(error).split())
            tqdm.write(f"skipped {name}: {skipped[name]}")
            continue
        write_shard(config.out, shard, columns)
        ledger.add(name, [len(episode.pictures) for episode in episodes])
        short += left_out
    if not ledger.drives:
        name, reason = next(iter(skipped.items()))
        raise ValueError(
            f"ingest: none of {len(names)} drives can be used; the first, {name}: {reason}"
        )
    write_card(ledger, camera_height, layout.terms, skipped)
    print(
        f"{config.out}: {ledger.num_episodes} episodes, {ledger.num_frames} frames of "
        f"{len(ledger.drives)} drive(s); {len(skipped)} skipped, "
        f"{short} stretch(es) under {config.min_seconds:g} s left out"
    )
    return config.out


def _names(config: IngestConfig, layout: Layout) -> list[str]:
    if not config.source.is_dir():
        raise ValueError(f"ingest: got source {config.source}, expected a folder that is there")
    names = layout.names(config)
    if not names:
        raise ValueError(
            f"ingest: got no drive in {config.source}, expected layout {config.layout}; "
            "`sanawm-gym ingest --help` says what it looks like"
        )
    return names


def _camera_height(config: IngestConfig, layout: Layout) -> float:
    height = layout.camera_height if config.camera_height is None else config.camera_height
    if height is None:
        raise ValueError(
            f"ingest: got no camera height, expected one with layout {config.layout}; measure from "
            "the road to the lens and pass --camera-height [m]"
        )
    return height
