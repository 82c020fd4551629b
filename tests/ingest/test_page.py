"""The commands of docs/train_your_own_world.md run, on a tiny set in each layout."""

import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sanawm_gym import cli
from sanawm_gym.camera import Intrinsics
from sanawm_gym.envs.reference.record import RecordConfig, record
from sanawm_gym.episodes import EpisodeDataset
from sanawm_gym.train_wm.latent_clips import load_latent_clips
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
        lens = Intrinsics(*columns["intrinsics"][0].tolist(), width=128, height=72)
        write_kitti(root / "kitti" / "dataset", f"0{info.index}", truth, lens)
        write_comma(root / "comma2k19", f"Chunk_1/route/{5 + info.index}", truth)
    return root


def run(line: str) -> str:
    """Run a line of the page, made small, and return the name of its command."""
    words = shlex.split(line)
    assert words.pop(0) == "sanawm-gym"
    name = " ".join(words[: 2 if words[0] == "train-wm" else 1])
    assert cli.main(words + shlex.split(TINY.get(name, ""))) == 0, line
    return name


@pytest.fixture(scope="module")
def ran(workplace: Path) -> list[str]:
    """Names of the page's commands, which have been run in the workplace."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workplace)
        return [run(line) for line in commands()]


def test_the_page_goes_from_videos_to_a_drive(workplace: Path, ran: list[str]) -> None:
    stages = ["vae", "latents", "streaming", "bundle"]
    assert ran == ["ingest"] * 3 + [f"train-wm {stage}" for stage in stages] + ["drive"]
    assert len(read_video(workplace / "mine.mp4")) == 16
    for data in ("mine", "kitti", "comma"):
        assert len(EpisodeDataset(workplace / "data" / data)) == 2


@pytest.mark.parametrize("data", ["kitti", "comma"])
def test_the_other_layouts_are_trained_on_by_the_same_commands(
    data: str, workplace: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    wanted = ("train-wm latents", "train-wm streaming")
    lines = [line for line, name in zip(commands(), ran, strict=True) if name in wanted]
    assert len(lines) == 2
    for line in lines:
        run(line.replace("mine", data).replace("data/latents", f"latents/{data}").replace(
            "runs/stream", f"runs/{data}"
        ))  # fmt: skip
    clips, held_out = load_latent_clips(workplace / "latents" / data)
    assert len(clips) == len(held_out) == 2  # each drive, and from later on
    ours, theirs = (
        load_file(workplace / "runs" / name / "network.safetensors") for name in (data, "stream")
    )
    assert ours.keys() == theirs.keys()
    assert any(not torch.equal(ours[name], theirs[name]) for name in ours)


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
