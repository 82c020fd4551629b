"""A whole report at its smallest: what it says, how it goes on, what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sanawm_gym import cli
from sanawm_gym.validate.job import ValidateJob, validate
from sanawm_gym.validate.page import aimed

TINY = {"starts": 2, "seconds": 1.0, "world_seed": 40_200}


def _report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


def test_a_report_compares_the_bundled_world(tmp_path: Path) -> None:
    out = tmp_path / "report"
    page = validate(ValidateJob(out=out, parts=("steering",), **TINY)).read_text()
    report = _report(out)
    assert report["parts"].keys() == {"steering"}
    assert "--parts speed" in report["left_out"]["speed"]
    for pictures in ("generated", "reference"):
        found = report["parts"]["steering"][pictures]
        assert found["decisions"] == 8 and found["median_error"] < 0.1
    assert "data:image/png;base64," in page and "data:image/jpeg;base64," in page
    assert "$" not in page, "no place of the template is left empty"
    assert not re.search(r"(src|href)=\"(?!data:|#)", page), "nothing outside the page is needed"
    assert all(one["label"] in page for one in report["headlines"])


@pytest.mark.filterwarnings("ignore:this world never learnt")
def test_an_interrupted_report_goes_on_and_a_world_without_heads_says_what_is_left_out(
    tmp_path: Path, world: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report"
    parts = ("determinism", "policies", "reward", "speed", "drift")
    words = ["validate", "--world", world, "--out", str(out), "--parts", *parts]
    words += ["--starts", "2", "--seconds", "1", "--world-seed", "40200"]
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    report = _report(out)
    assert report["parts"]["determinism"]["equal"]
    assert f"hash of a drive: {report['parts']['determinism']['here']}" in said
    assert "train-wm heads" in report["left_out"]["reward"]
    drivers = report["parts"]["policies"]["drivers"]
    assert drivers.keys() == {"constant", "random"}, "the others read or look"
    # The reward is kinematic in both worlds, and so is the motion of a driver that does not look.
    for name in ("constant", "random"):
        one = drivers[name]
        assert one["generated"]["metres"] == pytest.approx(one["reference"]["metres"], rel=1e-3)
        assert one["generated"]["return"] == pytest.approx(one["reference"]["return"], abs=0.05)
    assert "pearson" not in report["parts"]["policies"], "two drivers have no order to speak of"
    assert report["parts"].keys() == {*parts} - {"reward"}
    assert len(report["parts"]["drift"]["generated"]) == 5 and report["parts"]["drift"]["floor"] > 0

    # A unit that is gone is measured anew, to the same figures; the others are left as they are.
    raw = out / "raw"
    kept = {path.name: path.stat().st_mtime_ns for path in raw.iterdir()}
    (raw / "policy-random.json").unlink()
    (out / "index.html").unlink()
    assert cli.main(words) == 0
    assert _report(out)["parts"] == report["parts"] and (out / "index.html").is_file()
    renewed = {path.name for path in raw.iterdir() if path.stat().st_mtime_ns != kept[path.name]}
    assert renewed == {"policy-random.json"}

    # Another report does not mix with it.
    assert cli.main([*words, "--seed", "3"]) == 2
    assert "seed: there 0, got 3" in capsys.readouterr().err
    assert _report(out)["parts"] == report["parts"]


@pytest.mark.filterwarnings("ignore:this world never learnt")
def test_what_cannot_be_measured_is_refused_before_anything_is_written(
    tmp_path: Path, world: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out, diary = tmp_path / "report", tmp_path / "diary"
    diary.mkdir()
    (diary / "monday.txt").write_text("rain")
    common = ["validate", "--world", world]
    for words, named in (
        ([*common, "--out", str(out), "--policies", "nobody"], "nobody"),
        ([*common, "--out", str(out), "--policies", "idm"], "no heads"),
        ([*common, "--out", str(out), "--parts", "speed", "--policies", "idm"], "part policies"),
        ([*common, "--out", str(out), "--parts", "colour"], "colour"),
        ([*common, "--out", str(out), "--starts", "1"], "starts"),
        ([*common, "--out", str(out), "--seconds", "0.3"], "quarters"),
        ([*common, "--out", str(diary)], "something else"),
        (["validate", "--world", "nowhere", "--out", str(out)], "nowhere"),
    ):
        assert cli.main(words) == 2
        said = capsys.readouterr().err
        assert named in said and said.count("\n") == 1, said
    assert not out.exists() and [path.name for path in diary.iterdir()] == ["monday.txt"]


def test_a_figure_meets_its_aim_or_does_not_and_none_never_does() -> None:
    assert aimed("r", 0.94, at_least=0.93).met is True
    assert aimed("mmrv", 0.13, at_most=0.12).met is False
    lost = aimed("r", float("nan"), at_least=0.93)
    assert lost.met is False and lost.value is None
