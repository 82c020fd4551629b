"""What a run was made with: configuration, data, code, hardware and command.

It is written to ``run.json`` beside the weights for whoever finds them later. Configuration and
data also go into every checkpoint, because a run that goes on with other ones is neither the old
run nor a new one, and nothing in its curves would say so.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import sanawm_gym
from sanawm_gym.worldmodel.folder import read_json, write_json

DATA_SUFFIXES = frozenset({".safetensors", ".mp4", ".parquet", ".zip", ".npz", ".lmdb", ".mdb"})
"""Files that count as data by their name and size."""

FREE_SETTINGS = frozenset(
    f"trainer.{name}"
    for name in (
        *("out", "resume", "steps", "stop_at", "threads", "sharding", "context_parallel"),
        *("save_every", "sample_every"),
    )
) | {"gradient_checkpointing", "memory_gb", "reading.max_damaged"}
"""Settings in which a resumed run may differ: how far, how fast and what is shown on the way."""

_FREE_OF_FILES = frozenset({"out", "device", "threads"})
"""The same of a stage that makes files."""

_WEIGHTS = frozenset({"autoencoder", "network", "teacher"})
"""Inputs of such stages that hold weights."""


def describe_config(config: Any) -> dict[str, Any]:
    """A configuration as json holds it: paths absolute, tuples as lists."""
    plain = dataclasses.asdict(config)
    described: dict[str, Any] = json.loads(json.dumps(plain, default=_plain))
    return described


def _plain(value: object) -> object:
    return os.path.abspath(value) if isinstance(value, Path) else str(value)


def describe_inputs(config: Any) -> dict[str, str]:
    """Hash of everything that a stage's configuration names as its input, by field.

    Args:
        config: Its fields that hold a path, or several, are the inputs; nested configurations
            have none.
    """
    named = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    for name, value in list(named.items()):
        if isinstance(value, list | tuple):
            named.update({f"{name}[{place}]": item for place, item in enumerate(value)})
    return {name: hash_input(path) for name, path in named.items() if isinstance(path, Path)}


def begin_files(config: Any) -> None:
    """Write the ``run.json`` of a stage that makes files, unless there are some of another kind.

    A second run makes what is missing; what it finds has to be what it would have made. Of weights
    every byte counts here: the next step of a run has files of the same names and sizes.

    Args:
        config: The stage's, with its folder ``out`` and its ``device``. A folder without a
            ``run.json`` is taken on trust.

    Raises:
        ValueError: If ``out`` holds files of another configuration or of other inputs, naming how.
    """
    record = RunRecord(describe_config(config), describe_inputs_and_weights(config))
    path = config.out / "run.json"
    if path.is_file() and any(config.out.glob("*.safetensors")):
        problems = record.differences(read_json(path), free=_FREE_OF_FILES)
        if problems:
            raise ValueError(
                f"{config.out} holds files that were made otherwise: {'; '.join(problems)}. Go on "
                "with what they were made with, choose another out, or delete it to make them anew"
            )
    config.out.mkdir(parents=True, exist_ok=True)
    write_json(path, record.describe(torch.device(config.device), num_processes=1))


def describe_inputs_and_weights(config: Any) -> dict[str, str]:
    """As `describe_inputs` without the folder that is written, and with weights read whole."""
    hashes = describe_inputs(config)
    hashes.pop("out", None)
    for name in _WEIGHTS & hashes.keys():
        digest = hashlib.sha256(hashes[name].encode())
        for path in sorted(getattr(config, name).glob("*.safetensors")):
            with path.open("rb") as file:
                while part := file.read(1 << 24):
                    digest.update(part)
        hashes[name] = digest.hexdigest()
    return hashes


def hash_input(path: Path) -> str:
    """Cheap hash of a file or folder: sha256 over its index, and over names and sizes of its data.

    Of a folder the json files at its top are read (index, captions, configurations) except a
    ``run.json``; of data files at any depth only name and size count, since reading a recording of
    hundreds of gigabytes at every start would cost more than it protects. A file exchanged for
    another of the same size therefore passes.

    Args:
        path: What exists there; a missing path hashes like an empty folder.
    """
    digest = hashlib.sha256()
    for file in _files(path):
        name = file.relative_to(path if path.is_dir() else path.parent).as_posix()
        digest.update(f"{name}\0{file.stat().st_size}\0".encode())
        if file.suffix == ".json" and file.parent == path:
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for file in sorted(path.rglob("*")):
        at_top = file.parent == path
        is_index = at_top and file.suffix == ".json" and file.name != "run.json"
        if (is_index or file.suffix in DATA_SUFFIXES) and file.is_file():
            yield file


def describe_source(package: Path) -> dict[str, Any]:
    """Version of the software, and the commit where it runs from a checkout of its own.

    Args:
        package: Folder of the package.
    """
    source: dict[str, Any] = {"version": sanawm_gym.__version__}
    top = _git(package, "rev-parse", "--show-toplevel")
    # An environment inside some other repository says nothing about this software.
    if top is None or Path(top).resolve() != package.resolve().parent:
        return source
    source["commit"] = _git(package, "rev-parse", "HEAD")
    changed = _git(package, "status", "--porcelain", "--untracked-files=no", "--", ".")
    source["has_changes"] = bool(changed)
    return source


@functools.cache
def _own_source() -> dict[str, Any]:
    """What this process imported, as it was when first asked for."""
    return describe_source(Path(sanawm_gym.__file__).parent)


def _git(folder: Path, *words: str) -> str | None:
    """What git answers, or None where it is not installed or refuses."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def describe_hardware(device: torch.device, num_processes: int) -> dict[str, Any]:
    """Processor, accelerator and how many of them work."""
    accelerator = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "processor": _processor(),
        "accelerator": accelerator,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "num_processes": num_processes,
        "machine": platform.platform(),
        "torch": torch.__version__,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")  # Linux; elsewhere the platform module knows
    if info.is_file():
        for line in info.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """What must stay the same when a run goes on."""

    config: dict[str, Any]
    """The stage's whole configuration, as json holds it."""
    data: dict[str, str]
    """Hash of every input by the field that names it; see :func:`hash_input`."""

    @classmethod
    def of(cls, config: Any) -> RunRecord:
        """Record of a stage's configuration and of what lies where it points now."""
        return cls(describe_config(config), describe_inputs(config))

    def check(self, stored: dict[str, Any] | None, out: Path) -> None:
        """Refuse to go on with a checkpoint that was made otherwise.

        Fields that only one of the two has belong to another version and are not compared.

        Args:
            stored: ``dataclasses.asdict`` of the record in the checkpoint; None in checkpoints
                older than this, which are taken on trust.
            out: Folder of the checkpoint.

        Raises:
            ValueError: If a setting outside :data:`FREE_SETTINGS` or a hash differs.
        """
        problems = [] if stored is None else self.differences(stored)
        if problems:
            raise ValueError(
                f"{out} holds a checkpoint of another run: {'; '.join(problems)}. Go on with what "
                "it was made with, choose another trainer.out, or begin anew in the same folder "
                "with trainer.resume off"
            )

    def differences(
        self, stored: dict[str, Any], free: frozenset[str] = FREE_SETTINGS
    ) -> list[str]:
        """What a stored record says otherwise, in words.

        Args:
            stored: Its configuration and data.
            free: Settings that may differ.
        """
        now, then = _flat(self.config), _flat(stored["config"])
        settings = [
            f"{name} is {now[name]!r}, expected {then[name]!r}"
            for name in now
            if name in then and name not in free and now[name] != then[name]
        ]
        return settings + [
            f"the files of {name} have changed: got hash {found[:12]}, "
            f"expected {stored['data'][name][:12]}"
            for name, found in self.data.items()
            if found != stored["data"].get(name, found)
        ]

    def describe(self, device: torch.device, num_processes: int) -> dict[str, Any]:
        """Everything that ``run.json`` says about the run's origin."""
        return {
            "config": self.config,
            "data": self.data,
            "source": dict(_own_source()),
            "hardware": describe_hardware(device, num_processes),
            "command": shlex.join(sys.argv),
        }


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves of nested dicts by their dotted names."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            leaves.update(_flat(value, f"{prefix}{name}."))
        else:
            leaves[prefix + name] = value
    return leaves
