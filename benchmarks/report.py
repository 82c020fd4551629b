"""What all benchmarks share: the stamp of machine and commit, the table and the file of figures."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, kw_only=True)
class Report:
    """One benchmark's result.

    Attributes:
        title: What was measured.
        columns: Heads of the table.
        rows: Cells, as they shall be read.
        figures: Everything measured, for the JSON file; plain numbers, strings, lists and dicts.
        notes: Lines below the table.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    figures: Mapping[str, Any]
    notes: Sequence[str] = ()

    def publish(self, options: Any, out: Path | None) -> None:
        """Print the table and write options, environment and figures to a JSON file.

        Args:
            options: The benchmark's config.
            out: File to write, replaced whole; None writes nothing.
        """
        stamp = environment(getattr(options, "device", "cpu"))
        print(f"\n**{self.title}** ({', '.join(str(value) for value in stamp.values())})\n")
        print(f"| {' | '.join(self.columns)} |\n|{'---|' * len(self.columns)}")
        for row in self.rows:
            print(f"| {' | '.join(row)} |")
        for note in self.notes:
            print(f"\n{note}")
        if out is not None:
            text = {
                "title": self.title,
                "environment": stamp,
                "options": dataclasses.asdict(options),
                "figures": dict(self.figures),
            }
            out.parent.mkdir(parents=True, exist_ok=True)
            partial = out.with_name(f"{out.name}.partial")
            partial.write_text(json.dumps(text, indent=2, default=_plain) + "\n")
            os.replace(partial, out)
            print(f"\nwrote {out}")


def environment(device: str = "cpu") -> dict[str, str]:
    """Where and from what a figure comes, ready to be read."""
    name = _cpu_name() if device == "cpu" else torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return {
        "device": f"{name}, {os.cpu_count()} cores" if device == "cpu" else name,
        "threads": f"{threads} thread{'s' if threads > 1 else ''}",
        "torch": f"torch {torch.__version__}",
        "commit": f"commit {_commit()}",
        "date": datetime.date.today().isoformat(),
    }


def quantiles_ms(seconds: Sequence[float]) -> str:
    """Median and 95th percentile as one cell [ms]."""
    p50, p95 = 1e3 * np.quantile(seconds, [0.5, 0.95])
    return f"{p50:.1f} / {p95:.1f}"


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Mean and deviation over repetitions as one cell."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return f"{np.mean(values):.{digits}f} ± {deviation:.{digits}f}"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str:
    """Short hash of the checkout, marked where files differ from it."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True, timeout=20
        )
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "sanawm_gym", "benchmarks")
        return git("rev-parse", "--short", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _plain(value: Any) -> Any:
    """JSON form of paths and numpy values."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return str(value)
