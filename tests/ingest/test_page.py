"""The commands of docs/train_your_own_world.md run, on a tiny set in each layout."""

import shlex
from pathlib import Path

import numpy as np
import pytest

from sanawm_gym import cli
from sanawm_gym.camera import Intrinsics
from sanawm_gym.envs.reference.record import RecordConfig, record
from sanawm_gym.episodes import EpisodeDataset
from sanawm_gym.video import read_video
from tests.ingest.conftest import Truth, tum, write_comma, write_kitti

PAGE = Path(__file__).resolve().parents[2] / "docs" / "train_your_own_world.md"

_TRAINER = "--trainer.steps 2 --trainer.warmup 1 --trainer.sample-every 0"
TINY = {
    "train-wm vae": f"{_TRAINER} --clip-frames 5 --model.latent-channels 4 --model.fine-channels 8 "
    "--model.coarse-channels 12 --model.fine-blocks 1 --model.coarse-blocks 1",
    "train-wm latents": "--later-starts 1 --later-frames 41",
    "train-wm streaming": f"{_TRAINER} --piece 5 --lanes 2 --model.in-channels 4 "
    "--model.num-layers 4 --model.hidden-size 32 --model.num-attention-heads 2 "
    "--model.caption-channels 16 --model.text-length 32 --model.plucker-channels 24",
    "drive": "--seconds 1",
}
"""What is added to a command to make it small."""


def commands() -> list[str]:
    """Lines of the page's shell blocks."""
    blocks = PAGE.read_text(encoding="utf-8").split("```bash\n")[1:]
    return [line for block in blocks for line in block.split("```")[0].splitlines() if line]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drives of the simulator as if they had been filmed."""
    root = tmp_path_factory.mktemp("page")
    settings = RecordConfig(out=root / "truth", episodes=2, seconds=6.0, seed=7)
    recording = EpisodeDataset(record(settings))
    (root / "my_videos").mkdir()
    for info in recording.episodes:
        columns = recording.columns(info.index, names=["c2w", "intrinsics"])
        times = np.arange(info.num_frames) / 16.0
        truth = Truth(times, columns["c2w"], recording.frames(info.index))
        target = root / "my_videos" / f"drive-{info.index}.mp4"
        target.write_bytes(info.video.read_bytes())
        target.with_suffix(".txt").write_text(tum(times, truth.poses))
        if info.index == 0:
            fx, fy, cx, cy = columns["intrinsics"][0].tolist()
            write_kitti(
                root / "kitti" / "dataset", "00", truth, Intrinsics(fx, fy, cx, cy, 128, 72)
            )
            write_comma(root / "comma2k19", "Chunk_1/route/5", truth)
    return root


def test_the_page_goes_from_videos_to_a_drive(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    ran = []
    for line in commands():
        words = shlex.split(line)
        assert words.pop(0) == "sanawm-gym"
        name = " ".join(words[: 2 if words[0] == "train-wm" else 1])
        assert cli.main(words + shlex.split(TINY.get(name, ""))) == 0, line
        ran.append(name)
    stages = ["vae", "latents", "streaming", "bundle"]
    assert ran == ["ingest"] * 3 + [f"train-wm {stage}" for stage in stages] + ["drive"]
    assert len(read_video("mine.mp4")) == 16
    for data, number in (("mine", 2), ("kitti", 1), ("comma", 1)):
        assert len(EpisodeDataset(workplace / "data" / data)) == number


def test_what_is_ingested_is_the_drive_of_the_simulator(workplace: Path, tmp_path: Path) -> None:
    truth = EpisodeDataset(workplace / "truth")
    height = float(truth.columns(0, 0, 1, ["c2w"])["c2w"][0, 2, 3])
    words = f"ingest --layout kitti --source {workplace}/kitti/dataset --out {tmp_path}"
    assert cli.main([*shlex.split(words), "--camera-height", str(height)]) == 0
    columns, expected = EpisodeDataset(tmp_path).columns(0), truth.columns(0)
    num = len(columns["speed"])
    np.testing.assert_allclose(columns["intrinsics"], expected["intrinsics"][:num], atol=1e-6)
    np.testing.assert_allclose(columns["c2w"][:, 2], expected["c2w"][:num, 2], atol=2e-3)
    np.testing.assert_allclose(columns["speed"], expected["speed"][:num], atol=0.2)
    turned, expected_turn = (yaw - yaw[0] for yaw in (columns["yaw"], expected["yaw"][:num]))
    np.testing.assert_allclose(turned, expected_turn, atol=1e-3)
    # The simulator's wheel moves in jerks of a quarter of a second, which half a second smooths.
    assert np.median(np.abs(columns["yaw_rate"] - expected["yaw_rate"][:num])) < 0.02
