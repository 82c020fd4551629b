"""The house itself: what an import brings along, how the command line answers, one version."""

import dataclasses
import importlib.metadata
import subprocess
import sys
import warnings
from pathlib import Path

import gymnasium as gym
import pytest

import sanawm_gym
from sanawm_gym import cli
from sanawm_gym.render.course import CourseConfig
from sanawm_gym.render.release import ReleaseConfig

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "sanawm_gym"
WINGS = (
    "agents", "envs", "envs/reference", "ingest", "paths", "render", "train_wm", "validate",
    "worldmodel",
)  # fmt: skip
HEAVY = ("torch", "fla", "accelerate", "diffusers", "transformers", "stable_baselines3", "scipy")


def _modules_after(statement: str) -> set[str]:
    """Top-level modules of a new interpreter after a statement."""
    program = f"{statement}\nimport sys\nprint(*(name.partition('.')[0] for name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(done.stdout.split())


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert _modules_after("import sanawm_gym").isdisjoint(HEAVY)


def test_the_overview_of_the_command_line_imports_nothing_heavy() -> None:
    statement = "import sanawm_gym.cli as cli; assert cli.main(['--help']) == 0"
    assert _modules_after(statement).isdisjoint(HEAVY)


def test_the_package_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "sanawm_gym", "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert sanawm_gym.__version__ in said


def test_the_help_of_drive_imports_no_torch() -> None:
    statement = (
        "import sanawm_gym.cli as cli\n"
        "try: cli.main(['drive', '--help'])\n"
        "except SystemExit as end: assert end.code == 0"
    )
    assert "torch" not in _modules_after(statement)


def test_the_world_model_imports_big_third_parties_only_where_used() -> None:
    lazy = {"fla", "accelerate", "diffusers", "transformers", "torchao", "openvino"}
    assert _modules_after("from sanawm_gym.worldmodel import WorldModel").isdisjoint(lazy)


def test_the_ground_floor_imports_no_torch() -> None:
    modules = ("geometry", "camera", "vehicle", "video", "episodes", "ingest")
    statement = "; ".join(f"import sanawm_gym.{module}" for module in modules)
    assert "torch" not in _modules_after(statement)


def test_importing_registers_every_id_and_registering_again_changes_nothing() -> None:
    ids = ["SanaWM-Drive-v0", "SanaWM-DriveReference-v0"]
    before = [gym.spec(env_id) for env_id in ids]
    sanawm_gym.register_envs()
    assert all(old is gym.spec(env_id) for old, env_id in zip(before, ids, strict=True))


def test_the_version_is_that_of_the_installed_distribution() -> None:
    assert importlib.metadata.version("sanawm-gym") == sanawm_gym.__version__


def test_the_changelog_knows_the_version() -> None:
    assert f"## [{sanawm_gym.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("wing", WINGS)
def test_the_page_of_a_wing_is_short_and_names_every_file(wing: str) -> None:
    folder = PACKAGE / wing
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert len(page.splitlines()) <= 40
    files = {path.name for path in folder.glob("*.py")} - {"__init__.py"}
    folders = {f"{path.parent.name}/" for path in folder.glob("*/__init__.py")}
    assert {name for name in files | folders if f"`{name}`" not in page} == set()


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["train-wm", "--help"]])
def test_asking_for_help_exits_0(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize("command", ["drive", "record", "train-wm vae"])
def test_a_command_lists_its_options_and_exits_0(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([*command.split(), "--help"])
    assert end.value.code == 0
    assert "seed" in capsys.readouterr().out


def test_help_breaks_lines_where_they_are_full_and_not_where_the_source_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["render", "--help"])
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for config, name in ((CourseConfig, "poses_pitch_deg"), (ReleaseConfig, "offload")):
        (field,) = [field for field in dataclasses.fields(config) if field.name == name]
        assert "\n" not in field.metadata["help"] and field.metadata["help"] in said


def test_our_warnings_are_a_line_without_code_and_those_of_others_keep_their_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def warn() -> None:
        for category, file in (
            (UserWarning, cli.__file__), (UserWarning, "other.py"), (FutureWarning, cli.__file__)
        ):  # fmt: skip
            print(warnings.formatwarning("path: it slides", category, file, 7, "code()"))

    monkeypatch.setattr(cli, "_run", lambda name, words: warn())
    before = warnings.formatwarning
    assert cli.main(["render"]) == 0 and warnings.formatwarning is before
    own, other, future = capsys.readouterr().out.strip().split("\n\n")
    assert own == "sanawm-gym render: warning: path: it slides"
    assert "other.py:7: UserWarning: path: it slides" in other
    assert "cli.py:7: FutureWarning: path: it slides" in future


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["dive"], "expected one of drive"),
        (["train-wm", "no-such-stage"], "no-such-stage"),
        (["drive", "--seconds", "-3"], "seconds"),
        (["drive", "--out", "drive.txt"], ".mp4"),
        (["drive", "--out", "."], ".mp4"),
        (["drive", "--threads", "0"], "threads"),
        (["drive", "--velocity", "3"], "--velocity"),
        (["drive", "--seconds", "soon"], "soon"),
        (["drive", "--policy", "nobody"], "nobody"),
    ],
)
def test_bad_input_exits_2_with_one_line(
    words: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert named in said


def test_a_missing_extra_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # None in sys.modules makes an import fail as if the package were not there.
    monkeypatch.setitem(sys.modules, "viser", None)
    command = cli.Command(summary="", module="viser", config="", function="")
    monkeypatch.setitem(cli.COMMANDS, "view", command)
    assert cli.main(["view"]) == 2
    assert 'pip install "sanawm-gym[viz]"' in capsys.readouterr().err
