"""The search: what nothing beats, what is kept, and what several processes and a stop do to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

pytest.importorskip("optuna")

from pocketrec.compress.frontier import JOURNAL, Frontier, SearchConfig, pareto, refine, search
from pocketrec.compress.pipeline import SequenceRoad
from pocketrec.compress.recipe import Recipe
from pocketrec.compress.report import Measure
from pocketrec.compress.road import Built
from pocketrec.compress.search_space import SearchSpace, space_of
from pocketrec.runtime.errors import GateError, InputError

SPACE = SearchSpace(
    choices={"bits": (8, 4, 2), "keep": (1.0, 0.5)},
    recipe=lambda params: Recipe(name=f"{params['bits']} {params['keep']}"),
)
ABOUT = {"checkpoint": "abc", "metric": None}


class FakeRoad:
    """Few bits cost accuracy; pruning at 4 bits costs nothing, and at 8 bits more than it saves."""

    before = Measure(size_bytes=10_000, parameters=1, ndcg10=0.5)

    def __init__(self, folder: Path, stop_after: int | None = None, refused: str | None = None) -> None:
        self.folder, self.original = folder, folder / "teacher"
        self.built, self.stop_after, self.refused = list[str](), stop_after, refused

    def build(self, recipe: Recipe) -> Built:
        if self.stop_after is not None and len(self.built) >= self.stop_after:
            raise KeyboardInterrupt
        self.built.append(recipe.name)
        if recipe.name == self.refused:
            raise GateError("the runtime does not agree")
        bits, keep = (float(value) for value in recipe.name.split())
        lost = {8: 0.0, 4: 0.01, 2: 0.2}[int(bits)] + (0.3 if keep < 1 and bits == 8 else 0.0)
        size_bytes = int(100 * bits * (0.8 if keep < 1 else 1.0))
        measure = Measure(size_bytes=size_bytes, parameters=1, ndcg10=0.5 * (1 - lost), rerank_ms=bits)
        return Built(recipe=recipe, steps=(), measure=measure, made=None)

    def test(self, built: Built) -> dict[str, Any]:
        return {"recipe": built.recipe.name}

    def write(self, built: Built, metrics: dict[str, Any] | None) -> Path:
        path = self.folder / "draft.pocket"
        path.write_bytes(bytes(built.measure.size_bytes))
        return path

    def place(self, recipe: Recipe) -> object:
        return recipe


def go(
    tmp_path: Path, *, about: dict[str, Any] = ABOUT, road: FakeRoad | None = None, **options: Any
) -> Frontier:
    drafts = tmp_path / "drafts"
    drafts.mkdir(parents=True, exist_ok=True)
    road = road or FakeRoad(drafts)
    return search(road, SPACE, tmp_path / "found", SearchConfig(**options), about=about)


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("sampler", ["grid", "tpe"])
def test_every_recipe_once_and_the_front_is_what_nothing_beats(tmp_path: Path, sampler: str) -> None:
    found = go(tmp_path, sampler=sampler, trials=100)
    assert len(found.points) == 6, "there are no more recipes, and none is built twice"
    assert [(point.params["bits"], point.params["keep"]) for point in found.front] == [
        (2, 0.5),
        (4, 0.5),
        (8, 1.0),
    ]
    assert [point.size_bytes for point in found.front] == [160, 320, 800]
    assert [point.value for point in found.front] == pytest.approx([0.4, 0.495, 0.5])
    assert listing(tmp_path / "found") == sorted([JOURNAL, *(point.file for point in found.front)])
    for point in found.front:
        assert (tmp_path / "found" / point.file).stat().st_size == point.size_bytes


def test_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    (tmp_path / "drafts").mkdir()
    first = FakeRoad(tmp_path / "drafts", stop_after=2)
    stopped = go(tmp_path, road=first, sampler="grid", trials=6)
    assert stopped.interrupted
    assert (len(stopped.points), stopped.failed) == (2, 1), "what was found is kept"
    assert [point.file in listing(tmp_path / "found") for point in stopped.front] == [True] * len(
        stopped.front
    )
    second = FakeRoad(tmp_path / "drafts")
    done = go(tmp_path, road=second, sampler="tpe", trials=6)
    assert not done.interrupted
    assert len(done.points) == 6
    assert sorted(first.built + second.built) == sorted(SPACE.recipe(params).name for params in SPACE.all())
    assert go(tmp_path, road=(third := FakeRoad(tmp_path / "drafts")), trials=6).points == done.points
    assert third.built == []


def test_a_trial_of_a_process_that_died_is_closed_and_made_again(tmp_path: Path) -> None:
    """Killed in the middle, it could tell nobody."""
    (tmp_path / "drafts").mkdir()
    code = (
        "import os, sys; from pathlib import Path; sys.path.insert(0, sys.argv[2]); import test_frontier as t\n"
        "class Dies(t.FakeRoad):\n"
        "    def build(self, recipe):\n"
        "        os.kill(os.getpid(), 9)\n"
        "tmp = Path(sys.argv[1]); t.go(tmp, road=Dies(tmp / 'drafts'), sampler='grid', trials=6)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent)]
    assert subprocess.run(command, check=False, timeout=120).returncode == -9
    found = go(tmp_path, sampler="grid", trials=6)
    assert len(found.points) == 6
    assert found.failed == 1


def test_two_processes_share_a_search(tmp_path: Path) -> None:
    """Each recipe is built by one of them."""
    (tmp_path / "drafts").mkdir()
    code = (
        "import sys, time; from pathlib import Path; sys.path.insert(0, sys.argv[2]); import test_frontier as t\n"
        "class Slow(t.FakeRoad):\n"
        "    def build(self, recipe):\n"
        "        time.sleep(0.3)\n"
        "        return super().build(recipe)\n"
        "tmp = Path(sys.argv[1]); mine = tmp / sys.argv[3]; mine.mkdir(); road = Slow(mine)\n"
        "(tmp / f'{sys.argv[3]}.ready').touch()\n"
        "while len(list(tmp.glob('*.ready'))) < 2: time.sleep(0.01)\n"
        "t.go(tmp, road=road, sampler='grid', trials=6); print(chr(10).join(road.built))\n"
    )
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent), name],
            stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for name in ("a", "b")
    ]  # fmt: skip
    built = [run.communicate(timeout=120)[0].split("\n")[:-1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert all(len(own) >= 1 for own in built), "both have worked"
    assert sorted(built[0] + built[1]) == sorted(SPACE.recipe(params).name for params in SPACE.all())
    assert len(go(tmp_path, trials=6).front) == 3


def test_another_search_is_refused(tmp_path: Path) -> None:
    go(tmp_path, trials=1)
    with pytest.raises(
        InputError, match="found: holds a search with another checkpoint; choose another folder"
    ):
        go(tmp_path, about={**ABOUT, "checkpoint": "xyz"}, trials=1)
    with pytest.raises(InputError, match="holds a search with another epochs"):
        go(tmp_path, trials=1, epochs=5)


def test_a_bundle_that_fails_its_checks_is_left_out_and_not_tried_again(tmp_path: Path) -> None:
    (tmp_path / "drafts").mkdir()
    road = FakeRoad(tmp_path / "drafts", refused="4 0.5")
    found = go(tmp_path, road=road, trials=100)
    assert (len(found.points), found.failed) == (5, 1)
    assert sorted(road.built) == sorted(SPACE.recipe(params).name for params in SPACE.all())


def test_time_is_an_objective_where_it_is_asked_for(tmp_path: Path) -> None:
    found = go(tmp_path, trials=6, timed=True)
    assert {point.rerank_ms for point in found.points} == {8.0, 4.0, 2.0}
    assert not go(tmp_path / "no time left", trials=6, timeout_s=1e-9).points


def test_the_front_made_again(tmp_path: Path) -> None:
    found = go(tmp_path, trials=6)
    road = FakeRoad(tmp_path / "drafts")
    made = refine(road, SPACE, tmp_path / "found", found.front, 8)
    assert [point for point, *_ in made] == found.front
    for point, path, measure, metrics in made:
        assert path.name == f"refined-{point.number:04d}.pocket"
        assert path.stat().st_size == measure.size_bytes
        assert metrics == {"recipe": f"{point.params['bits']} {point.params['keep']}"}


def test_pareto() -> None:
    assert pareto([]) == set()
    assert pareto([(1.0, 2.0, 3.0), (1.0, 2.0, 2.5), (0.5, 9.0, 9.0)]) == {1, 2}


def test_weighted_means_are_not_tried_without_distillation(tiny_road) -> None:
    """Untrained they rank nobody's item, and what learning adds to nothing is no number."""
    road = Mock(spec=SequenceRoad, model=tiny_road.teacher.model)
    space = space_of(road, epochs=2, seed=0)
    choice = {"bits": 4, "rank": 1.0, "tail": 0.0, "encoder": "pooled"}
    student = space.recipe({**choice, "epochs": 2}).student
    assert student is not None
    assert student.architecture == "pooled"
    with pytest.raises(GateError, match="need distillation"):
        space.recipe({**choice, "epochs": 0})


def test_what_cannot_be(tmp_path: Path) -> None:
    for options in ({"trials": 0}, {"epochs": -1}):
        with pytest.raises(ValueError, match="expected at least 1 and 0"):
            SearchConfig(**options)


@pytest.mark.usefixtures("export_once")
class TestCommand:
    """`pocketrec compress --frontier` on the tiny model."""

    def test_a_search(self, cli_here, tiny_road, tmp_path: Path) -> None:
        folder = tmp_path / "front"
        args = (
            "compress",
            tiny_road.checkpoint,
            "--data",
            tiny_road.data,
            "--frontier",
            folder,
            "--threads",
            "1",
        )
        done = cli_here(*args, "--trials", "2", "--trial-epochs", "0", "--refine", "1", "--metric", "hr@5")
        assert (done.exit_code, done.stderr) == (0, "")
        said = json.loads((folder / "frontier.json").read_text())
        assert said["metric"] == "HR@5"
        assert said["settings"]["trials"] == 2
        front = [trial for trial in said["trials"] if trial["on_front"]]
        assert len(said["trials"]) == 2
        assert {trial["file"] for trial in front} | {one["file"] for one in said["refined"]} == {
            path.name for path in folder.glob("*.pocket")
        }
        assert len(said["refined"]) == len(front)
        assert "hr@5" in said["refined"][0]["metrics"]["accuracy"]["metrics"]
        plot = (folder / "frontier.svg").read_text()
        assert plot.startswith("<svg ")
        assert "prefers-color-scheme:dark" in plot
        assert plot.count("<circle") == 2
        assert "trial-" in done.stdout
        assert str(folder / "frontier.json") in done.stdout
        from pocketrec.runtime.engine import Engine

        engine = Engine.load(folder / front[0]["file"])
        assert engine.n_items == 50
        assert "metrics" not in engine.manifest, "the test items were not looked at"
        assert engine.manifest["name"] == "front"

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--frontier", "DIR", "-o", "x.pocket", "--bits", "2"), "leave -o, --bits out"),
            (("--frontier", "DIR", "--max-drop", "1%"), "leave --max-drop out"),
            ((), "where to? give -o FILE for a bundle, or --frontier DIR"),
            (("--frontier", "DIR", "--trial-epochs", "-1"), "--trial-epochs -1, expected at least 0"),
            (("--frontier", "DIR", "--timeout", "soon"), "expected a time such as 90s, 30m or 2h"),
            (("--frontier", "DIR", "--metric", "auc"), "--metric auc: this model ranks by a history"),
        ],
    )
    def test_what_is_refused(
        self, cli_here, tiny_road, tmp_path: Path, options: tuple[str, ...], message: str
    ) -> None:
        given = [str(tmp_path / "found") if option == "DIR" else option for option in options]
        done = cli_here("compress", tiny_road.checkpoint, "--data", tiny_road.data, *given)
        assert done.exit_code == 2
        assert message in done.stderr

    def test_without_the_extra_it_is_named(self, cli_here, tiny_road, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.setitem(sys.modules, "optuna", None)
        done = cli_here(
            "compress", tiny_road.checkpoint, "--data", tiny_road.data, "--frontier", tmp_path / "x"
        )
        assert done.exit_code == 2
        assert done.stderr == (
            "pocketrec: error: pocketrec compress --frontier needs the extra `search`: pip install 'pocketrec[search]'\n"
        )

    def test_ctrl_c_keeps_what_was_found(self, cli_here, tiny_road, tmp_path: Path, monkeypatch) -> None:
        from pocketrec.compress.pipeline import SequenceRoad

        build, calls = SequenceRoad.build, list[str]()

        def twice(road: SequenceRoad, recipe: Recipe) -> Built:
            calls.append(recipe.name)
            if len(calls) > 2:
                raise KeyboardInterrupt
            return build(road, recipe)

        monkeypatch.setattr(SequenceRoad, "build", twice)
        folder = tmp_path / "front"
        args = (
            "compress",
            tiny_road.checkpoint,
            "--data",
            tiny_road.data,
            "--frontier",
            folder,
            "--threads",
            "1",
        )
        done = cli_here(*args, "--trial-epochs", "0")
        assert done.exit_code == 130
        assert f"interrupted; 2 trials are kept in {folder}, the same command goes on" in done.stdout
        assert len(json.loads((folder / "frontier.json").read_text())["trials"]) == 2
        assert list(folder.glob("*.pocket"))
