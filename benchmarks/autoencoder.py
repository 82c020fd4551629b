"""How well the autoencoder keeps a picture: PSNR of encode and decode on held-out reference video.

Every episode is encoded as a whole and decoded as a drive is: one latent frame a call, the decoder
carrying its memory. PSNR is taken over all pixels of an episode, 10 log10(255^2 / mean squared
error) on the bytes, and averaged over episodes, each of which shows a world of its own. Without
`--data` the video is recorded on the spot with a seed that no training set uses (needs the extra
`reference`).

    python benchmarks/autoencoder.py --out results/autoencoder.json
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from jaxtyping import UInt8
from reference_video import fitted, recorded
from report import Report
from tqdm import tqdm

from sanawm_gym.envs.worlds import shared_world
from sanawm_gym.episodes import EpisodeDataset
from sanawm_gym.worldmodel.autoencoder import VideoAutoencoder


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to decode.

    Attributes:
        world: World model whose autoencoder is measured: a bundled name, a folder or a hub id.
        data: Dataset folder that no training has seen; recorded anew when not given.
        last: Share of the dataset used, its last episodes, in (0, 1].
        episodes: Episodes recorded when no data is given, >= 1.
        seconds: Length of those [s], 1 to 600.
        record_seed: Their seed.
        device: Torch device.
        threads: CPU threads of torch, >= 1.
        out: JSON file to write.
    """

    world: str = "drive"
    data: Path | None = None
    last: float = 1.0
    episodes: int = 32
    seconds: float = 10.0
    record_seed: int = 90001
    device: str = "cpu"
    threads: int = 1
    out: Path | None = None


def reconstruct(
    autoencoder: VideoAutoencoder, frames: UInt8[np.ndarray, "f h w 3"]
) -> UInt8[np.ndarray, "f h w 3"]:
    """Encode a clip, decode it latent frame by latent frame."""
    weight = autoencoder.latents_mean
    pixels = torch.from_numpy(np.array(frames)).to(weight.device).permute(3, 0, 1, 2)[None]
    with torch.no_grad():
        latents = autoencoder.encode((pixels.float() / 127.5 - 1).to(weight.dtype))
        memory, parts = None, []
        for index in range(latents.shape[2]):
            part, memory = autoencoder.decode_step(latents[:, :, index : index + 1], memory)
            parts.append(part)
    decoded = torch.cat(parts, dim=2)[0].permute(1, 2, 3, 0)
    result = ((decoded.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return np.asarray(result.cpu().numpy())


def psnr(drawn: UInt8[np.ndarray, "..."], truth: UInt8[np.ndarray, "..."]) -> float:
    error = np.mean((drawn.astype(np.float64) - truth.astype(np.float64)) ** 2)
    return float(10 * np.log10(255.0**2 / max(float(error), 1e-9)))


def measure(options: Options, data: Path) -> list[tuple[int, float]]:
    """World seed and PSNR of every episode [dB]."""
    world = shared_world(options.world, device=options.device)
    autoencoder, size = world.autoencoder, (world.width, world.height)
    dataset = EpisodeDataset(data, num_cached=1)
    stride = autoencoder.config.temporal_stride
    first = len(dataset) - max(1, round(options.last * len(dataset)))
    found = []
    for info in tqdm(dataset.episodes[first:], unit="episode"):
        whole = (info.num_frames - 1) // stride * stride + 1
        frames, _ = fitted(dataset, info.index, size, whole)
        found.append((info.world_seed, psnr(reconstruct(autoencoder, frames), frames)))
    return found


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        data = recorded(
            options.data,
            Path(folder),
            episodes=options.episodes,
            seconds=options.seconds,
            seed=options.record_seed,
        )
        found = measure(options, data)
    source = str(data)
    if options.data is None:
        source = f"recorded with seed {options.record_seed}"
    values = np.array([value for _, value in found])
    deviation = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    Report(
        title="Autoencoder on held-out reference video",
        columns=["episodes", "PSNR, mean ± deviation", "worst", "best"],
        rows=[
            [
                str(len(values)),
                f"{values.mean():.2f} ± {deviation:.2f} dB",
                f"{values.min():.2f} dB",
                f"{values.max():.2f} dB",
            ]
        ],
        figures={
            "psnr_db": float(values.mean()),
            "deviation_db": deviation,
            "source": source,
            "episodes": [{"world_seed": seed, "psnr_db": value} for seed, value in found],
        },
        notes=[f"Video: {source}; streaming decode, deviation over episodes."],
    ).publish(options, options.out)


if __name__ == "__main__":
    main(tyro.cli(Options))
