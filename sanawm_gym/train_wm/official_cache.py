"""The zip/npz layout in which SANA-WM's latents are published, written and read.

    raw/<shard>.zip                       <key>.json: width, height, prompt
    raw/<shard>_camera.npz                ids, ranges (start, count); pose, intrinsics of all
    raw/<shard>_metric_scale_stats.json   key -> factor that turns translations into metres
    raw/<shard><suffix>.json or .jsonl    further captions, and scores to filter by
    latents/<shard>.zip                   <key>.npz: z (c, t, y, x)

Rows of the camera file are the raw frames of clip after clip. Poses are camera-to-world with OpenCV
axes in a world frame of the clip's own; readers take them relative to its first frame. Intrinsics
are fx, fy, cx, cy in pixels of the ``width`` x ``height`` of the key's json. A clip without a row
stands still, its focal lengths one picture. [SANA-WM, section 5.6 of the spec, and the reader in
NVlabs/Sana]

The layout leaves open, and we chose: whether z is normalised per channel (ours is, like all our
latents); its dtype (float16); the dtype of poses (float64, so that a long drive loses nothing);
which clips are held out (``held_out`` in the json); and pictures warped over the ground (``warped``
beside z, which other readers pass over). The folder names ``raw`` and ``latents`` are ours too, the
two may lie anywhere. Other readers skip npz entries below 10 MB unless told otherwise: clips of the
small worlds made here are below that.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from sanawm_gym.train_wm.npz_pack import NpzPack, npz_arrays
from sanawm_gym.train_wm.official_sidecars import (
    camera_table,
    read_camera,
    read_score,
    read_sidecar,
)

CAPTION_SUFFIX = "_LongSceneStaticCaption-Qwen3-VL-30B-A3B-Instruct"
"""Sidecar of the captions the paper trains with."""

FULL_ENTRY_BYTES = 10 * 2**20
"""Size below which the published set's entries are taken for cut off."""


@dataclass(frozen=True, kw_only=True)
class OfficialClip:
    """One clip of t latent frames and f raw ones."""

    key: str
    """Name, unique in a cache."""
    z: Float[np.ndarray, "c t y x"]
    """Latents."""
    poses: Float[np.ndarray, "f 4 4"] | None
    """world_from_camera of every raw frame [m]; None where the camera is not known."""
    intrinsics: Float[np.ndarray, "f 4"] | None
    """fx, fy, cx, cy of every raw frame [px]; None with the poses."""
    width: int
    """Width of the pictures that the intrinsics belong to [px]."""
    height: int
    """Their height [px]."""
    prompt: str
    """Caption."""
    held_out: bool = False
    """Not to be trained on."""
    warped: Float[np.ndarray, "c t y x"] | None = None
    """Latents of pictures carried over the ground, see `latent_clips.LatentClip`."""


def write_shard(raw: Path, cache: Path, shard: str, clips: Iterable[OfficialClip]) -> int:
    """Write a shard, its sidecars and its latents; the raw zip, by which it is found, comes last.

    Args:
        raw: Folder of descriptions and sidecars, created if missing.
        cache: Folder of the latents, created if missing.
        shard: Stem of the files.
        clips: Read once, one in memory at a time.

    Returns:
        Number of clips.

    Raises:
        ValueError: If two clips have one key.
    """
    raw.mkdir(parents=True, exist_ok=True)
    cache.mkdir(parents=True, exist_ok=True)
    infos: dict[str, bytes] = {}
    cameras: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    partial = cache / f"{shard}.partial"
    with zipfile.ZipFile(partial, "w") as latents:
        for clip in clips:
            if clip.key in infos:
                raise ValueError(f"got two clips {clip.key!r} for {shard}, expected unique keys")
            arrays = {"z": clip.z} | ({} if clip.warped is None else {"warped": clip.warped})
            latents.writestr(_member(f"{clip.key}.npz"), _npz(arrays))
            info = {"width": clip.width, "height": clip.height, "prompt": clip.prompt,
                    "held_out": clip.held_out}  # fmt: skip
            infos[clip.key] = json.dumps(info).encode()
            if clip.poses is not None and clip.intrinsics is not None:
                cameras[clip.key] = clip.poses, clip.intrinsics
    os.replace(partial, cache / f"{shard}.zip")
    _replace(raw / f"{shard}_camera.npz", _npz(camera_table(cameras)))
    scales = json.dumps(dict.fromkeys(cameras, 1.0), indent=1)
    _replace(raw / f"{shard}_metric_scale_stats.json", scales.encode())
    described = io.BytesIO()
    with zipfile.ZipFile(described, "w") as pack:
        for key, content in infos.items():
            pack.writestr(_member(f"{key}.json"), content)
    _replace(raw / f"{shard}.zip", described.getvalue())
    return len(infos)


def _member(name: str) -> zipfile.ZipInfo:
    """An entry without a date, so that equal clips make equal files, that everybody may read."""
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o644 << 16
    return info


def _npz(arrays: dict[str, Any]) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def _replace(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    os.replace(partial, path)


@dataclass(frozen=True, kw_only=True)
class OfficialCacheConfig:
    """Where a cache lies and which of its clips count."""

    raw: Path
    """Folder of descriptions and sidecars."""
    cache: Path
    """Folder of the latents."""
    caption_suffix: str | None = None
    """Sidecar from which captions come, where it has one; None is the prompt of the json."""
    filters: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Lowest and highest admitted score by sidecar suffix; a clip without a score is refused."""
    smallest_entry: int = FULL_ENTRY_BYTES
    """Bytes below which an npz entry is taken for cut off; 0 for caches of small worlds."""


class OfficialCache:
    """Random access to the clips of a cache.

    Attributes:
        keys: Clips that count, by shard and within it in the order of the raw zip.
        refused: Why each of the others does not.
    """

    def __init__(self, config: OfficialCacheConfig) -> None:
        self.config = config
        self.keys: list[str] = []
        self.refused: dict[str, str] = {}
        self._shard_of: dict[str, str] = {}
        self._sidecars: dict[Path, dict[str, Any]] = {}
        self._cameras: dict[Path, dict[str, np.ndarray]] = {}
        self._packs: dict[str, NpzPack] = {}
        for path in sorted(config.raw.glob("*.zip")):
            self._index(path)
        if not self.keys:
            raise ValueError(
                f"got no usable clip in {config.raw} and {config.cache} ({len(self.refused)} "
                f"refused{self._first_refusal()}), expected zip files of the same names in both"
            )

    def clip(self, key: str) -> OfficialClip:
        """A clip; its latents are mapped into memory where they are not compressed.

        Raises:
            ValueError: If its files are damaged or do not fit each other; names the clip.
        """
        shard = self._shard_of[key]
        try:
            info = json.loads(_entry(self.config.raw / f"{shard}.zip", f"{key}.json"))
            arrays = self._packs[shard].arrays(f"{key}.npz")
            z, warped = arrays["z"], arrays.get("warped")
            width, height = int(info["width"]), int(info["height"])
            poses, intrinsics = self._camera(shard, key)
        except (OSError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(
                f"cannot read clip {key!r} of shard {shard} in {self.config.raw} and "
                f"{self.config.cache} ({error!r}): fetch or encode the shard again"
            ) from error
        if z.ndim != 4:
            raise ValueError(f"clip {key!r} has latents {z.shape}, expected 4 axes c, t, y, x")
        return OfficialClip(
            key=key, z=z, poses=poses, intrinsics=intrinsics, width=width, height=height,
            prompt=self._caption(shard, key, info), held_out=bool(info.get("held_out", False)),
            warped=warped,
        )  # fmt: skip

    def _index(self, path: Path) -> None:
        shard, latents = path.stem, self.config.cache / path.name
        if not latents.is_file():
            self.refused[shard] = f"no {latents}"
            return
        try:
            with zipfile.ZipFile(path) as raw:
                keys = [n.removesuffix(".json") for n in raw.namelist() if n.endswith(".json")]
            self._packs[shard] = NpzPack(latents)
        except (OSError, zipfile.BadZipFile) as error:
            self.refused[shard] = str(error)
            return
        for key in keys:
            reason = self._reason(shard, key, self._packs[shard].size(f"{key}.npz"))
            if reason is None:
                self.keys.append(key)
                self._shard_of[key] = shard
            else:
                self.refused[key] = reason

    def _reason(self, shard: str, key: str, size: int | None) -> str | None:
        """Why a clip does not count, or None if it does."""
        if key in self._shard_of:
            return f"shard {self._shard_of[key]} has it already"
        if size is None:
            return "no latents"
        if size < self.config.smallest_entry:
            return f"{size} bytes, fewer than {self.config.smallest_entry}"
        for suffix, (low, high) in self.config.filters.items():
            score = read_score(self._sidecar(shard, suffix).get(key))
            if score is None or not low <= score <= high:
                return f"{suffix} is {score}, not in {low} ... {high}"
        return None

    def _first_refusal(self) -> str:
        return "".join(
            f", the first, {key!r}: {why}" for key, why in list(self.refused.items())[:1]
        )

    def _camera(self, shard: str, key: str) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Poses in metres and intrinsics of a clip's raw frames, if the camera is known."""
        path = self.config.raw / f"{shard}_camera.npz"
        if path not in self._cameras:
            self._cameras[path] = {}
            if path.is_file():
                self._cameras[path] = npz_arrays(np.asarray(np.memmap(path, np.uint8, mode="c")))
        found = read_camera(self._cameras[path], key)
        if found is None:
            return None, None
        poses, intrinsics = found
        scale = read_score(self._sidecar(shard, "_metric_scale_stats").get(key))
        if scale is not None and np.isfinite(scale):
            poses[:, :3, 3] *= scale
        return poses, intrinsics

    def _caption(self, shard: str, key: str, info: Mapping[str, Any]) -> str:
        if self.config.caption_suffix is not None:
            entry = self._sidecar(shard, self.config.caption_suffix).get(key)
            if isinstance(entry, Mapping):
                words = [value for value in entry.values() if isinstance(value, str)]
                entry = entry.get("prompt", words[0] if words else None)
            if isinstance(entry, str):
                return entry
        return str(info.get("prompt") or "")

    def _sidecar(self, shard: str, suffix: str) -> dict[str, Any]:
        """A sidecar's entries by key; empty where there is none."""
        path = self.config.raw / f"{shard}{suffix}.json"
        if path not in self._sidecars:
            self._sidecars[path] = read_sidecar(path)
        return self._sidecars[path]


def _entry(path: Path, name: str) -> bytes:
    with zipfile.ZipFile(path) as pack:
        return pack.read(name)
