"""Part `determinism`: do the same seed and actions give the same bytes, in another process too?"""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import torch

from sanawm_gym.validate.generated import GeneratedDrives
from sanawm_gym.validate.page import Headline, Section, said, table
from sanawm_gym.validate.setup import Setup, Unit
from sanawm_gym.validate.starts import SharedStart

NAME = "determinism"
_LONGEST = 40
"""Decisions of the drive, at most."""
_PROGRAM = """
import pickle, sys
from sanawm_gym.validate.determinism import drive_hash
print(drive_hash(*pickle.load(sys.stdin.buffer)))
"""


def units(setup: Setup) -> list[Unit]:
    """One drive, twice."""
    steps = min(_LONGEST, setup.job.num_decisions)

    def work() -> None:
        threads = torch.get_num_threads()
        given = (setup.starts[0], setup.generated_settings(), setup.job.seed, steps, threads)
        found = {"here": drive_hash(*given), "there": _in_new_process(given)}
        setup.store.save(NAME, {**found, "decisions": steps})

    return [Unit(name=NAME, label=NAME, weight=steps * 0.12 + 6.0, work=work)]


def _in_new_process(given: tuple[Any, ...]) -> str:
    """`drive_hash` where nothing that was loaded or computed here can help."""
    path = os.pathsep.join(one for one in sys.path if one)
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        input=pickle.dumps(given),
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        check=True,
    )
    return done.stdout.decode().strip()


def drive_hash(
    start: SharedStart, settings: dict[str, Any], seed: int, decisions: int, threads: int
) -> str:
    """SHA-256 over every picture, motion and reward of a drive in a fresh environment.

    Args:
        start: Where it begins.
        settings: Arguments of the environment.
        seed: Of the world's noise and of the actions, which are drawn.
        decisions: Length of the drive.
        threads: CPU threads of torch.
    """
    torch.set_num_threads(threads)
    envs = GeneratedDrives([start], [seed], settings)
    digest, rng = hashlib.sha256(), np.random.default_rng(seed)
    for _ in range(decisions):
        reward = envs.step(rng.uniform(-1, 1, (1, 2)).astype(np.float32))
        for part in (*envs.observation.values(), reward):
            digest.update(np.ascontiguousarray(part).tobytes())
    envs.close()
    return digest.hexdigest()


def figures(setup: Setup) -> dict[str, Any]:
    """Both hashes, and whether they are one."""
    found = setup.store.load(NAME)
    return {**found, "equal": found["here"] == found["there"]}


def section(setup: Setup, found: dict[str, Any]) -> Section:
    """On the page."""
    return Section(
        name=NAME,
        title="Determinism",
        question="Do the same seed and actions give the same bytes?",
        headlines=[
            Headline(
                label="determinism: hash of a drive", value=found["here"][:16],
                aim="equal in a new process", met=bool(found["equal"]),
            )
        ],
        body=[
            said(
                f"A drive of {found['decisions']} random actions is made twice from the same seed, "
                "the second time in a new process. The hash goes over every picture, every motion "
                "and every reward."
            ),
            table(["process", "SHA-256"],
                  [["this one", found["here"]], ["a new one", found["there"]]]),
        ],
        limits=(
            "Equal bytes are promised on one machine with one torch and one number of threads; "
            "another processor may round differently and give another hash."
        ),
    )  # fmt: skip
