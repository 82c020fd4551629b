"""The benchmark of transfer, as a script and for a few decisions; and what its figures mean."""

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sanawm_gym.agents import load_policy
from sanawm_gym.video import read_video

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
ROAD = 930_000_000  # of a world that nothing is measured on

Run = Callable[..., str]


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let benchmarks import what they share."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_it_trains_judges_and_films_and_drives_no_road_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, plot, video, shipped = (
        tmp_path / name for name in ("f.json", "plot.png", "two.mp4", "ppo.safetensors")
    )
    words = (
        f"--runs {tmp_path / 'runs'} --seeds 1 --steps 2 --n-steps 2 --cars 1 --horizon 0.5 "
        "--evaluations 1 --episodes 1 --settings start=000 --baselines constant --roads 1 "
        f"--seconds 0.25 --first-road {ROAD} --out {out} --plot {plot} --video {video} "
        f"--ship {shipped}"
    )

    def run(*more: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["transfer.py", *words.split(), *more])
        runpy.run_path(str(BENCHMARKS / "transfer.py"), run_name="__main__")
        figures: dict[str, Any] = json.loads(out.read_text())["figures"]
        return figures

    figures = run()
    printed = capsys.readouterr().out
    assert "| PPO, generated world |" in printed and "keeps" in printed
    for world in ("generated", "reference"):
        assert len(figures["judged"][f"PPO, {world} world"]) == 1, "one a seed"
    roads = {
        drive["world_seed"]
        for of_seeds in figures["drives"].values()
        for drives in of_seeds
        for drive in drives
    }
    assert roads == {ROAD}, "everybody drives the same roads"
    assert figures["judged"]["good driver"][0]["completion"] == 1
    gaps = {f"PPO, {world} world: more than constant" for world in ("generated", "reference")}
    assert {"keeps", *gaps} == figures["compared"]["return"].keys()
    with Image.open(plot) as picture:
        assert picture.size[0] > 800
    film = read_video(video)
    assert film.shape == (1 + 4, 4 * 72 + 28, 2 * 4 * 128, 3)
    load_policy(shipped)
    assert shipped.stat().st_size < 1e6
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.*")}
    assert run("--parts", "evaluate") == figures
    assert files == {path: path.stat().st_mtime_ns for path in files}, "nothing was done twice"
    with pytest.raises(SystemExit):
        run("--worlds", "reference")
    assert "expected both for --video" in capsys.readouterr().err
    words = words.split(" --video")[0]
    alone = run("--parts", "evaluate", "--worlds", "reference")
    assert alone["compared"]["return"].keys() == {"PPO, reference world: more than constant"}
    assert files == {path: path.stat().st_mtime_ns for path in files}, "nothing was done twice"


def test_a_drive_is_measured_up_to_where_it_left_the_road() -> None:
    from roads import GOOD, RoadConfig, _GoodDriver, completion, drive_road, figures, make_env

    class Left:
        """Full throttle and full lock."""

        def reset(self, seeds: Any) -> None: ...

        def act(self, observation: Any, infos: Any = None) -> Any:
            return np.array([[0.4, 1.0]], np.float32)

    assert GOOD == "good driver"
    env = make_env(RoadConfig(roads=1, seconds=4.0, vehicles=0, first_road=ROAD))
    good, wild = (drive_road(env, driver, ROAD) for driver in (_GoodDriver(env), Left()))
    env.close()
    assert good["end"] == "horizon" and good["off_road"] == 0 and good["seconds"] == 4.0
    assert good["along"] == pytest.approx(good["metres"], rel=0.02)
    assert wild["end"] == "off_road" and wild["off_road"] == 1
    assert wild["along"] < 0.95 * wild["metres"], "what lies beside the road is no route"
    assert wild["lateral"] > good["lateral"] and wild["comfort"] < good["comfort"]
    assert completion([good, wild], [good["along"], 1e3])[0] == 1
    found = figures([good, wild], [good["along"]] * 2)
    assert found["off_road_per_km"] == pytest.approx(1e3 / (good["metres"] + wild["metres"]))


def test_an_interval_knows_pairs_from_strangers() -> None:
    from paired import interval

    rng = np.random.default_rng(1)
    roads = rng.uniform(5, 25, 40)
    better = roads[None] + rng.normal(1.0, 0.1, (3, 40))
    gap = interval(better, roads[None], is_ratio=False)
    assert gap["low"] > 0.8 and gap["high"] < 1.2, "roads differ by far more than drivers"
    assert gap["low"] < gap["value"] == pytest.approx(1.0, abs=0.1)
    ratio = interval(roads[None] * 0.9, roads[None], is_ratio=True)
    assert ratio == pytest.approx({"value": 0.9, "low": 0.9, "high": 0.9})
