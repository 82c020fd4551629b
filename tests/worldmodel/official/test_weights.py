"""Released weights of every layout: read, refused, converted, and exchanged with diffusers."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from diffusers.models.transformers.transformer_sana_wm import SanaWMTransformer3DModel
from safetensors.torch import load_file, save_file

from sanawm_gym import cli
from sanawm_gym.worldmodel.config import SANA_WM_2B6, SanaWMConfig
from sanawm_gym.worldmodel.model import SanaWM
from sanawm_gym.worldmodel.official.layout import find_layout, get_layout
from sanawm_gym.worldmodel.official.load import empty_network, load_network
from sanawm_gym.worldmodel.official.offload import BlockOffload
from sanawm_gym.worldmodel.official.sampling import STREAMING
from sanawm_gym.worldmodel.official.save import save_network
from sanawm_gym.worldmodel.official.settings import OfficialSettings, read_settings
from sanawm_gym.worldmodel.official.tensors import network_name, open_tensors
from sanawm_gym.worldmodel.world import WorldModel

from .conftest import RELEASED, original_tensors

LAYOUTS = ["original", "chunk_causal", "streaming", "diffusers"]
Release = Callable[[str], Path]


def opened(folder: Path, **options: Any) -> tuple[SanaWM, OfficialSettings]:
    layout = get_layout(folder, ("network",))
    source = open_tensors(layout.weights)
    settings = read_settings(layout, source.shapes)
    return load_network(settings.network, source, **options), settings


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_holds_the_same_network(
    layout: str, release: Release, theirs: SanaWMTransformer3DModel
) -> None:
    network, settings = opened(release(layout))
    scale = "padded" if layout == "streaming" else "head_dim"
    assert settings.network == dataclasses.replace(RELEASED, softmax_main_scale=scale)
    assert settings.sampling.mode == {
        "original": "bidirectional",
        "diffusers": "bidirectional",
    }.get(layout, layout)
    expected = theirs.state_dict()
    got = network.state_dict()
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[name], expected[name]) for name in got)
    assert not network.training and not any(p.requires_grad for p in network.parameters())


def test_the_files_beside_the_weights_say_how_to_sample(release: Release) -> None:
    _, original = opened(release("original"))
    assert original.sampling.shift == 9.5 and original.sampling.max_tokens == 12
    assert original.sampling.instruction == ("Say more.", "User Prompt: ")
    assert opened(release("diffusers"))[1].sampling.shift == 7.0
    streaming = opened(release("streaming"))[1].sampling
    assert streaming == STREAMING and streaming.timesteps == (1000, 960, 889, 727)


def test_a_conversion_by_others_says_in_its_config_how_to_sample(release: Release) -> None:
    folder = release("diffusers")
    path = folder / "transformer" / "config.json"
    theirs = {
        "ffn_type": "CachedGLUMBConvTemp",
        "pos_embed_type": "casual_wan_rope",
        "chunk_size": 3,
        "num_cached_blocks": 4,
        "sink_token": False,
        "denoising_step_list": [1000, 908, 764, 0],
        "inference_flow_shift": 8.0,
        "scheduler_type": "self_forcing_flow_euler",
    }
    path.write_text(json.dumps({**json.loads(path.read_text()), **theirs}))
    network, settings = opened(folder)
    assert settings.sampling.mode == "streaming"
    assert settings.sampling.timesteps == (1000, 908, 764)
    assert network.config.num_cached_chunks == 4 and not network.config.sink


def test_weights_are_cast_once_and_copied_out_of_the_file(release: Release) -> None:
    folder = release("streaming")
    network, _ = opened(folder, dtype=torch.bfloat16)
    assert {tensor.dtype for tensor in network.state_dict().values()} == {torch.bfloat16}
    network.x_embedder.proj.bias.zero_()
    again, _ = opened(folder)
    assert again.x_embedder.proj.bias.abs().max() > 0


@pytest.mark.parametrize("layout", ["original", "diffusers"])
def test_wrong_tensors_are_all_named_in_one_error(layout: str, release: Release) -> None:
    folder = release(layout)
    for index in folder.glob("transformer/*.index.json"):
        index.unlink()
    files = [*folder.glob("dit/*"), *folder.glob("transformer/*.safetensors")]
    tensors = {name: tensor for path in files for name, tensor in load_file(path).items()}
    for path in files:
        path.unlink()
    tensors["blocks.1.attn.conv_q.weight"] = tensors.pop("blocks.1.attn.conv_k.weight")
    tensors["blocks.2.mlp.t_conv.weight"] = torch.zeros(64, 64, 5, 1)
    tensors = {name: t for name, t in tensors.items() if not name.startswith("blocks.3.cross")}
    save_file(tensors, files[0].parent / "network.safetensors")
    with pytest.raises(ValueError) as refusal:
        opened(folder)
    said = str(refusal.value)
    assert "9 missing: " in said
    assert "blocks.1.attn.conv_k.weight" in said and "blocks.3.cross_attn.k_norm.weight" in said
    assert "1 surplus: blocks.1.attn.conv_q.weight" in said
    assert "blocks.2.mlp.t_conv.weight (64, 64, 5, 1) for (64, 64, 3, 1)" in said


def test_a_missing_last_block_is_missed(release: Release) -> None:
    folder = release("original")
    path = folder / "dit" / "sana_wm_tiny.safetensors"
    kept = {name: t for name, t in load_file(path).items() if not name.startswith("blocks.3.")}
    save_file(kept, path)
    with pytest.raises(ValueError, match=r"41 missing: blocks\.3\.scale_shift_table"):
        opened(folder)


def test_another_kind_of_network_is_refused_by_its_fields(release: Release) -> None:
    folder = release("diffusers")
    path = folder / "transformer" / "config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "k_conv_only": False, "linear_head_dim": 16}))
    with pytest.raises(ValueError, match="k_conv_only=False, expected True; linear_head_dim=16"):
        opened(folder)
    other = folder.parent / "other"
    (other / "dit").mkdir(parents=True)
    save_file({"lm_head.weight": torch.zeros(2)}, other / "dit" / "gemma.safetensors")
    with pytest.raises(ValueError, match=r"no SANA-WM network: missing x_embedder\.proj"):
        opened(other)


class _Runs:
    """What a pickle can hold beside tensors."""


def test_a_pickle_that_could_run_code_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "sana_dit").mkdir()
    torch.save({"generator": {}, "config": _Runs()}, tmp_path / "sana_dit" / "model.pt")
    with pytest.raises(ValueError, match=r"refused: .* could run code .*holds .*_Runs\)"):
        opened(tmp_path)
    # Torch's own advice, to open it nevertheless, is not passed on.
    torch.save([print, _Runs()], tmp_path / "sana_dit" / "model.pt")
    with pytest.raises(
        ValueError, match=r"holds builtins\.print, .*_Runs\)\. Convert it"
    ) as caught:
        opened(tmp_path)
    assert "will likely succeed" not in str(caught.value)


def test_a_torn_pickle_is_called_damaged(release: Release) -> None:
    folder = release("streaming")
    path = folder / "sana_dit" / "model.pt"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"model\.pt is damaged"):
        opened(folder)


@pytest.mark.parametrize("layout", ["streaming", "chunk_causal"])
def test_converted_weights_open_here_and_in_diffusers(
    layout: str, release: Release, theirs: SanaWMTransformer3DModel, tmp_path: Path
) -> None:
    folder, out = release(layout), tmp_path / "out"
    words = ["convert", "--source", str(folder), "--out", str(out), "--shard-gb", "0.0002"]
    assert cli.main(words) == 0
    assert len(list(out.glob("transformer/*-of-*.safetensors"))) > 2
    network, settings = opened(out)
    assert settings == opened(folder)[1]
    there = SanaWMTransformer3DModel.from_pretrained(out, subfolder="transformer")
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(tensor, network.state_dict()[name])
        assert torch.equal(tensor, there.state_dict()[name])


def test_what_is_converted_lies_beside_the_pickle_and_is_preferred(
    release: Release, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = release("streaming")
    words = ["convert", "--source", str(folder), "--out", str(folder), "--dtype", "bfloat16"]
    assert cli.main(words) == 0
    (folder / "sana_dit" / "model.pt").write_bytes(b"never opened again")
    network, settings = opened(folder, dtype=torch.bfloat16)
    assert settings.sampling.mode == "streaming" and network.config.num_cached_chunks == 2
    stored = load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.bfloat16}
    assert cli.main(words) == 2
    assert "exists" in capsys.readouterr().err


def test_nothing_is_written_for_weights_that_do_not_fit(release: Release, tmp_path: Path) -> None:
    folder = release("original")
    path = folder / "dit" / "sana_wm_tiny.safetensors"
    tensors = load_file(path)
    tensors.pop("final_layer.linear.bias")
    save_file(tensors, path)
    words = ["convert", "--source", str(folder), "--out", str(tmp_path / "out")]
    assert cli.main(words) == 2
    assert not (tmp_path / "out").exists()


def test_what_is_saved_here_opens_in_diffusers(
    tiny: SanaWMConfig, make_network: Callable[..., SanaWM], tmp_path: Path
) -> None:
    network = make_network(tiny)
    save_network(tmp_path, network, OfficialSettings(network=tiny, sampling=STREAMING))
    there = SanaWMTransformer3DModel.from_pretrained(tmp_path, subfolder="transformer")
    expected = network.state_dict()
    assert all(torch.equal(expected[name], tensor) for name, tensor in there.state_dict().items())


def test_a_hub_id_opens_from_the_cache_without_the_network(
    release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = tmp_path / "cache" / "models--owner--tiny"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("abc")
    shutil.copytree(release("original"), cached / "snapshots" / "abc")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert get_layout("owner/tiny", ("network",)).kind == "original"
    with pytest.raises(ValueError, match="no weights 'owner/huge' on disk or on the hub"):
        get_layout("owner/huge", ("network",))
    with pytest.raises(ValueError, match="expected a folder or a hub id"):
        get_layout("nowhere", ("network",))


def test_only_the_files_that_a_part_needs_are_fetched() -> None:
    from huggingface_hub.utils import filter_repo_objects

    from sanawm_gym.worldmodel.official.layout import patterns

    published = [
        "config.yaml", "README.md", "dit/sana_wm_1600m_720p.safetensors", "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors", "refiner/transformer/model-1.safetensors",
        "gemma3_12b/model.safetensors", "assets/teaser.mp4", "text_encoder/model.safetensors",
    ]  # fmt: skip
    network = list(filter_repo_objects(published, allow_patterns=patterns(("network",))))
    assert network == ["config.yaml", "dit/sana_wm_1600m_720p.safetensors"]
    wanted = patterns(("autoencoder", "refiner"))
    both = list(filter_repo_objects(published, allow_patterns=wanted))
    assert both == [name for name in published if name.startswith(("vae/", "refiner/", "gemma3"))]


def test_the_original_release_at_full_size_has_its_872_names() -> None:
    network = empty_network(SANA_WM_2B6)
    assert all(tensor.is_meta for tensor in network.state_dict().values())
    names = original_tensors(network)
    assert len(names) == 872
    assert {network_name(name) for name in names} - {None} == network.state_dict().keys()
    per_block = [sum(name.startswith(f"blocks.{i}.") for name in names) for i in range(20)]
    assert per_block == [41 if i % 4 == 3 else 43 for i in range(20)]


def test_each_of_the_two_classes_names_the_other(release: Release, world: str) -> None:
    with pytest.raises(ValueError, match=r"OfficialWorld\.from_pretrained"):
        WorldModel.from_pretrained(release("original"))
    with pytest.raises(ValueError, match=r"OfficialWorld\.from_pretrained"):
        WorldModel.from_pretrained("Efficient-Large-Model/SANA-WM_streaming")
    assert find_layout(release("diffusers").parent) is None
    with pytest.raises(ValueError, match=r"WorldModel\.from_pretrained"):
        get_layout(world, ("network",))


@torch.no_grad()
def test_blocks_that_wait_in_main_memory_draw_the_same(
    tiny: SanaWMConfig, make_network: Callable[..., SanaWM], make_scene: Callable[..., Any]
) -> None:
    network = make_network(tiny)
    scene = make_scene(tiny, 4)
    expected = network(scene.x, scene.timestep, scene.text(network), None)
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    offload = BlockOffload.of_network(network, "cpu")
    got = network(scene.x, scene.timestep, scene.text(network), None)
    assert torch.equal(got, expected)
    assert offload.most_present == 1 and not offload.present
    offload.remove()
    assert torch.equal(network(scene.x, scene.timestep, scene.text(network), None), expected)
    assert all(torch.equal(weights[name], t) for name, t in network.state_dict().items())
