"""How a teacher gets from noise to a clip, and what is kept of it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sanawm_gym.train_wm.clip_path import ClipPath
from sanawm_gym.train_wm.latent_clips import load_latent_clips
from sanawm_gym.train_wm.teacher_sampler import Grid, TeacherSampler
from sanawm_gym.train_wm.trajectories_stage import (
    TrajectoriesStageConfig,
    run_trajectories_stage,
)
from sanawm_gym.train_wm.trajectory_store import TrajectoryStore
from sanawm_gym.train_wm.weights import load_world_weights, make_weights
from sanawm_gym.worldmodel.flow import euler_sigmas
from sanawm_gym.worldmodel.model import SanaWM
from tests.train_wm.conftest import TINY_RELEASED

SIGMAS = (1.0, 0.9, 0.6)


def stage(
    latents: Path, autoencoder: Path, teacher: Path, out: Path, **changes: object
) -> TrajectoriesStageConfig:
    settings = TrajectoriesStageConfig(
        latents=latents,
        autoencoder=autoencoder,
        teacher=teacher,
        out=out,
        clip=4,
        num_clips=3,
        sigmas=SIGMAS,
        steps=5,
        batch_size=2,
    )
    return replace(settings, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trajectories(
    latents: Path, autoencoder: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("trajectories")
    run_trajectories_stage(stage(latents, autoencoder, teacher, out))
    return out


@pytest.mark.parametrize(
    ("mode", "lag"),
    [("bidirectional", 0.0), ("chunk_causal", 0.0), ("chunk_causal", 0.4), ("chunk_causal", 1.0)],
)
def test_snapshots_lie_on_the_way_that_is_known(mode: str, lag: float) -> None:
    """A last layer at zero predicts x_0 = 0, whose way from noise is sigma times that noise."""
    network = SanaWM(replace(TINY_RELEASED, prediction="x_0"))
    torch.nn.init.zeros_(network.final_layer.linear.weight)
    torch.nn.init.zeros_(network.final_layer.linear.bias)
    grid = Grid.of(8, 3.0, SIGMAS)
    sampler = TeacherSampler(network=network, mode=mode, grid=grid, guidance=1.0, lag=lag)  # type: ignore[arg-type]
    noise, first = torch.randn(2, 4, 10, 3, 4), torch.randn(2, 4, 1, 3, 4)
    path = ClipPath(
        poses=torch.eye(4, dtype=torch.float64).expand(2, 37, 4, 4),
        intrinsics=torch.tensor([[10.0, 10.0, 2.0, 1.5]] * 2, dtype=torch.float64),
        picture=(24, 32),
        grid=(3, 4),
    )
    text = network.encode_text(torch.zeros(2, 2, 16), torch.ones(2, 2, dtype=torch.bool))
    found = sampler.draw(first, noise, text, None, path.whole(network.config))
    for snapshot, sigma in zip(found, (*SIGMAS, 0.0), strict=True):
        assert torch.equal(snapshot[:, :, :1], first)
        assert torch.allclose(snapshot[:, :, 1:], sigma * noise[:, :, 1:], atol=1e-5)


def test_levels_to_keep_take_the_places_of_the_nearest_steps() -> None:
    grid = Grid.of(4, 8.0, (1.0, 0.967, 0.9, 0.7))
    assert grid.sigmas == (1.0, 0.967, 0.9, 0.7, 0.0)
    assert grid.kept == (0, 1, 2, 3, 4)
    finer = Grid.of(40, 8.0, (1.0, 0.5))
    assert len(finer.sigmas) == 41
    assert finer.sigmas[finer.kept[1]] == 0.5
    assert list(finer.sigmas) == sorted(finer.sigmas, reverse=True)
    assert sum(a != b for a, b in zip(finer.sigmas, euler_sigmas(40, 8.0), strict=True)) == 1
    with pytest.raises(ValueError, match="too few to pass"):
        Grid.of(3, 8.0, (1.0, 0.96, 0.95))


def test_a_trajectory_begins_in_noise_keeps_its_first_frame_and_leads_to_the_store(
    latents: Path, trajectories: Path
) -> None:
    store = TrajectoryStore(trajectories)
    assert (len(store), store.sigmas, store.num_latents) == (3, SIGMAS, 4)
    truth = {clip.caption: clip for clip in load_latent_clips(latents)[0]}
    for place in range(3):
        found = store[place]
        assert found.snapshots.shape == (4, 4, 4, 9, 16)
        assert found.caption in truth
        assert found.warped is not None and found.warped.shape == (4, 4, 9, 16)
        assert float(found.warped[0].abs().max()) == 0.0
        assert float(found.warped[1:].float().abs().amax(dim=(1, 2, 3)).min()) > 0.0
        assert bool((found.snapshots[:, 0] == found.snapshots[0, 0]).all())
        # Noise has unit variance and says nothing of what follows; later levels say ever more.
        gaps = [
            float((one[1:] - found.snapshots[-1, 1:]).float().square().mean())
            for one in found.snapshots
        ]
        assert gaps == sorted(gaps, reverse=True)
        assert abs(float(found.snapshots[0, 1:].float().std()) - 1.0) < 0.1


def test_guidance_moves_away_from_the_negative_prompt(
    latents: Path, autoencoder: Path, teacher: Path, trajectories: Path, tmp_path: Path
) -> None:
    plain = stage(latents, autoencoder, teacher, tmp_path / "plain", num_clips=1, guidance=1.0)
    run_trajectories_stage(plain)
    away = replace(plain, out=tmp_path / "away", guidance=3.0, negative_prompt="night")
    run_trajectories_stage(away)
    ends = [TrajectoryStore(folder)[0] for folder in (plain.out, away.out)]
    assert torch.equal(ends[0].snapshots[0], ends[1].snapshots[0])
    assert not torch.equal(ends[0].snapshots[-1], ends[1].snapshots[-1])


def test_a_second_run_draws_what_is_missing_and_the_same(
    latents: Path, autoencoder: Path, teacher: Path, trajectories: Path, tmp_path: Path
) -> None:
    out = tmp_path / "again"
    run_trajectories_stage(stage(latents, autoencoder, teacher, out))
    files = sorted(trajectories.glob("*.safetensors"))
    assert len(files) == 3
    (out / files[1].name).unlink()
    (out / files[1].name).with_suffix(".partial").write_bytes(b"killed while it was written")
    run_trajectories_stage(stage(latents, autoencoder, teacher, out))
    for file in files:
        assert (out / file.name).read_bytes() == file.read_bytes()
    with pytest.raises(ValueError, match=r"guidance is 3\.0, expected 2\.0"):
        run_trajectories_stage(stage(latents, autoencoder, teacher, out, guidance=3.0))


def test_damaged_and_strange_files_are_named(
    latents: Path, autoencoder: Path, teacher: Path, trajectories: Path, tmp_path: Path
) -> None:
    out = tmp_path / "copy"
    out.mkdir()
    for file in trajectories.iterdir():
        (out / file.name).write_bytes(file.read_bytes())
    victim = sorted(out.glob("*.safetensors"))[0]
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=f"{victim.name} is not a readable trajectory"):
        TrajectoryStore(out)[0]
    second = sorted(out.glob("*.safetensors"))[1]
    with pytest.raises(ValueError, match=f"{victim.name} is not a readable trajectory"):
        run_trajectories_stage(stage(latents, autoencoder, teacher, out))
    tensors = load_file(second)
    save_file({**tensors, "snapshots": tensors["snapshots"][:2].contiguous()}, second)
    with pytest.raises(ValueError, match=r"holds \(levels, latent frames\) = \(2, 4\)"):
        TrajectoryStore(out)[1]
    tensors["snapshots"][-1, 1, 0, 0, 0] = float("nan")
    save_file(tensors, second)
    with pytest.raises(ValueError, match="not finite"):
        TrajectoryStore(out)[1]


def test_an_unfinished_folder_is_refused(
    latents: Path, autoencoder: Path, teacher: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="999 latent frames or more"):
        run_trajectories_stage(stage(latents, autoencoder, teacher, tmp_path / "none", clip=999))
    out = tmp_path / "begun"
    settings = stage(latents, autoencoder, teacher, out, num_clips=1)
    run_trajectories_stage(settings)
    text = (out / "trajectories.json").read_text()
    begun = text[: text.index('"clips"')] + '"clips": []}'
    (out / "trajectories.json").write_text(begun)
    with pytest.raises(ValueError, match="goes on where it was interrupted"):
        TrajectoryStore(out)
    run_trajectories_stage(settings)
    assert len(TrajectoryStore(out)) == 1


def test_a_teacher_that_looks_at_no_pictures_is_shown_none(
    latents: Path, autoencoder: Path, tmp_path: Path
) -> None:
    captions = [clip.caption for clip in load_latent_clips(latents)[0]]
    make_weights(TINY_RELEASED, captions, None).save(tmp_path / "blind")
    assert not load_world_weights(tmp_path / "blind").network.config.warp_condition
    settings = stage(latents, autoencoder, tmp_path / "blind", tmp_path / "out", show="recorded")
    with pytest.raises(ValueError, match="has no warp_condition"):
        run_trajectories_stage(settings)
