"""The command `convert`: released weights of any layout into safetensors in that of diffusers.

Made for `SANA-WM_streaming`, whose network is a pickle of a training run (generator, critic and
their optimisers). It is opened with torch's `weights_only`, which builds tensors and plain values
and runs nothing, and only the generator is written. The other parts of a release are safetensors
already and stay where they are: give `--out` the release's own folder to have the result beside
them.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

_GIGABYTE = 10**9


@dataclass(frozen=True, kw_only=True)
class ConvertJob:
    """Convert released SANA-WM weights into safetensors in the layout of diffusers."""

    source: Annotated[str, tyro.conf.arg(metavar="FOLDER|OWNER/NAME")]
    """Released weights: a folder or a hub id, of which only the network is fetched."""
    out: Path
    """Folder that gets transformer/ and sampling.json; it must not have a transformer/."""
    dtype: Literal["keep", "bfloat16", "float32"] = "keep"
    """Dtype to store: as it is, bfloat16 (half the size; what inference computes in) or float32."""
    shard_gb: float = 5.0
    """Size of a file that no further tensor is added to [GB], above 0."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not self.shard_gb > 0:
            raise ValueError(f"shard_gb: got {self.shard_gb}, expected more than 0; try 5")
        if self.out.is_file():
            raise ValueError(f"out: got the file {self.out}, expected a folder")


def convert(job: ConvertJob) -> None:
    """Run the job and say what was written.

    Raises:
        ValueError: If the weights cannot be read or are not those of a SANA-WM network, or `out`
            holds one; nothing is written then.
    """
    # Slow to import, and `sanawm-gym convert --help` shall answer at once.
    import torch
    from tqdm import tqdm

    from .layout import Part, get_layout
    from .load import check_tensors, empty_network
    from .save import check_free, save_tensors
    from .settings import read_settings
    from .tensors import open_tensors

    check_free(job.out)
    only_network: tuple[Part, ...] = ("network",)
    layout = get_layout(job.source, only_network)
    source = open_tensors(layout.weights)
    settings = read_settings(layout, source.shapes)
    check_tensors(empty_network(settings.network).state_dict(), source.shapes, source.origin)
    dtype = None if job.dtype == "keep" else getattr(torch, job.dtype)
    read = source.read
    with tqdm(total=len(source.shapes), desc="converting", unit="tensor") as bar:

        def told(name: str) -> torch.Tensor:
            bar.update()
            return read(name)

        save_tensors(
            job.out,
            dataclasses.replace(source, read=told),
            settings,
            dtype=dtype,
            max_bytes=int(job.shard_gb * _GIGABYTE),
        )
    print(f"wrote {len(source.shapes)} tensors ({settings.sampling.mode}) to {job.out}")
