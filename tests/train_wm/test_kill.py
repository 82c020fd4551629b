"""A kill at any moment leaves the last checkpoint whole, and the run ends as if undisturbed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_run_that_is_killed_while_it_writes_goes_on_from_the_checkpoint_before(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.train_wm.killed_run", str(tmp_path)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = [line for line in done.stdout.splitlines() if line.split()[:1] in (["none"], ["step"])]
    # Killed within its first checkpoint it has none; within a later one, one of those before.
    assert told[0] in ("none", "step 1")
    assert told[1].startswith("step ")
    assert done.stdout.splitlines()[-1] == "same"
