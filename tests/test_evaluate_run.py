"""A comparison as a whole: fair, resumable, the same numbers however it was interrupted."""

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from firstpick.cli import main
from firstpick.database import StoreError
from firstpick.evaluate.arms import RANDOM, Arm, all_arms, yuan_hong_encoders
from firstpick.evaluate.bench import Bench
from firstpick.evaluate.classification import class_measures, network, probe
from firstpick.evaluate.grid import Cell, Cells, complete
from firstpick.evaluate.judges import class_judges
from firstpick.evaluate.page import write_outputs
from firstpick.evaluate.run import Plan, compare
from firstpick.evaluate.tables import ranks_of
from firstpick.selection import Guards
from firstpick.studies import Study

ROOT = Path(__file__).parents[1]


def make_bench(n=80, *, n_rare=0, informative=True, groups=None, seed=0):
    """Blobs for classes; ``judging`` features always tell them, ``selecting`` ones only if informative."""
    rng = np.random.default_rng(seed)
    n_common = n - n_rare
    classes = [f"class {row % 3}" for row in range(n_common)] + ["rare"] * n_rare
    centres = {name: rng.normal(scale=4, size=6) for name in sorted(set(classes))}
    blobs = np.array([centres[name] + rng.normal(size=6) for name in classes], np.float32)
    noise = rng.normal(size=(n, 6)).astype(np.float32)
    return Bench(
        studies=tuple(Study(f"study {row:03}", "1", "") for row in range(n)),
        groups=tuple(groups or [""] * n),
        classes=tuple(classes),
        masks=(),
        features={"selecting": blobs if informative else noise, "judging": blobs + 0.1 * noise},
        fingerprints={"selecting": "s", "judging": "j"},
    )


def run(bench, folder, *, strategies=("kmeans",), budgets=(4, 8), n_seeds=4, guards=None, executor=None):
    arms = all_arms(strategies, ["selecting"], ["l2"])
    plan = Plan(arms, budgets, n_seeds=n_seeds, test_fraction=0.25, guards=guards or Guards())
    judges = class_judges(bench, ["judging"], None)
    with closing(Cells(folder)) as cells, ThreadPoolExecutor(1) as threads:
        work = compare(bench, judges, plan, cells, executor or threads, n_waiting=2)
        while True:
            try:
                next(work)
            except StopIteration as end:
                return end.value


def square(number):
    return number**2


def cells_of(numbers):
    return [Cell({"number": number}, square, lambda number=number: (number,)) for number in numbers]


class Counting(ThreadPoolExecutor):
    n_run = 0

    def submit(self, function, /, *arguments):
        self.n_run += 1
        return super().submit(function, *arguments)


def test_a_finished_cell_is_never_run_again_and_equal_ones_run_once(tmp_path):
    with closing(Cells(tmp_path)) as store, Counting(1) as executor:
        assert list(complete(cells_of([1, 2, 2]), store, executor, n_waiting=3))[-1] == (2, 2)
        assert next(complete(cells_of([1, 2, 3]), store, executor, n_waiting=3)) == (2, 3)
        list(complete(cells_of([3, 1]), store, executor, n_waiting=3))
        assert executor.n_run == 3
        assert [store.get(cell) for cell in cells_of([1, 2, 3])] == [1, 4, 9]


def test_two_runs_do_not_share_a_folder(tmp_path):
    with closing(Cells(tmp_path)), pytest.raises(StoreError, match="Another comparison is running"):
        Cells(tmp_path)
    Cells(tmp_path).close()


def test_a_damaged_file_is_told_and_frees_the_folder(tmp_path):
    (tmp_path / "cells.sqlite").write_bytes(b"not a database, far from it" * 100)
    for _ in range(2):
        with pytest.raises(StoreError, match="is damaged"):
            Cells(tmp_path)


def test_a_run_that_is_broken_off_gives_what_an_undisturbed_one_gives(tmp_path):
    bench, whole = make_bench(), run(make_bench(), tmp_path / "whole")

    class Failing(ThreadPoolExecutor):
        left = 6

        def submit(self, function, /, *arguments):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return super().submit(function, *arguments)

    n_interrupted = 0
    for _ in range(20):
        try:
            with Failing(1) as executor:
                resumed = run(bench, tmp_path / "resumed", executor=executor)
            break
        except KeyboardInterrupt:
            n_interrupted += 1
    assert n_interrupted >= 3
    assert resumed == whole


def test_more_seeds_go_on_from_those_that_are_done(tmp_path):
    fewer = run(make_bench(), tmp_path, n_seeds=2)
    with Counting(1) as executor:
        more = run(make_bench(), tmp_path, n_seeds=3, executor=executor)
        assert 0 < executor.n_run <= 6  # two arms chosen, four batches judged
    assert set(fewer.results) <= set(more.results)


def test_other_labels_are_other_cells(tmp_path):
    bench = make_bench()
    run(bench, tmp_path)
    swapped = {"class 0": "class 1", "class 1": "class 0"}
    other = Bench(
        bench.studies,
        bench.groups,
        tuple(swapped.get(name, name) for name in bench.classes),
        (),
        bench.features,
        bench.fingerprints,
    )
    with Counting(1) as executor:
        run(other, tmp_path, executor=executor)
        assert executor.n_run > 0


def test_groups_stand_in_one_part_and_the_batch_keeps_to_the_guards(tmp_path):
    groups = [f"patient {row // 4}" for row in range(80)]
    outcome = run(make_bench(groups=groups), tmp_path, guards=Guards(max_per_group=1))
    assert outcome.test_ratio == pytest.approx(20 / 60)
    with closing(sqlite3.connect(tmp_path / "cells.sqlite")) as connection:
        recipes = [row[0] for row in connection.execute("select recipe from cells where recipe like '%judge%'")]
    for batch in (json.loads(recipe)["batch"] for recipe in recipes if '"judge"' in recipe):
        patients = [int(name[-3:]) // 4 for name in batch]
        assert len(set(patients)) == len(patients)


def test_no_judge_learns_from_the_features_that_chose(tmp_path):
    bench = make_bench()
    plan = Plan(all_arms(["kmeans"], ["selecting", "judging"], ["l2"]), (4,), n_seeds=2)
    judges = class_judges(bench, ["selecting", "judging"], None)
    with closing(Cells(tmp_path)) as cells, ThreadPoolExecutor(1) as executor:
        work = compare(bench, judges, plan, cells, executor, n_waiting=2)
        try:
            while True:
                next(work)
        except StopIteration as end:
            results = end.value.results
    pairs = {(result.judge, result.arm.encoder) for result in results if result.judge != "batch"}
    assert pairs == {
        ("probe on selecting", ""),
        ("probe on selecting", "judging"),
        ("probe on judging", ""),
        ("probe on judging", "selecting"),
    }


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"budgets": ()}, "budgets must be one or more rising numbers"),
        ({"budgets": (5, 5)}, r"got \[5, 5\]"),
        ({"budgets": (0, 5)}, "1 or more"),
        ({"budgets": (4,), "n_seeds": 0}, "seeds must be 1 or more; got 0"),
        ({"budgets": (4,), "test_fraction": 1.0}, "must lie between 0 and 1; got 1.0"),
    ],
)
def test_an_impossible_plan_is_told(plan, message):
    with pytest.raises(ValueError, match=message):
        Plan((RANDOM,), **plan)


def test_a_budget_that_takes_the_pool_is_told_before_anything_runs(tmp_path):
    with Counting(1) as executor, pytest.raises(ValueError, match="a budget of 70 takes the whole pool of 60 studies"):
        run(make_bench(), tmp_path, budgets=(4, 70), executor=executor)
    assert executor.n_run == 0


def test_unknown_strategies_and_scalings_are_told():
    with pytest.raises(ValueError, match="Did you mean 'kmeans'"):
        all_arms(["kmean"], ["pixels"], ["l2"])
    with pytest.raises(ValueError, match="scaling 'l3' is not known"):
        all_arms(["kmeans"], ["pixels"], ["l3"])


def test_the_preset_has_the_papers_baselines_and_every_foundation_encoder():
    known = ["dinov2-s", "pixels", "random-init", "other", "efficientnet-lite2"]
    assert yuan_hong_encoders(known) == ("pixels", "efficientnet-lite0", "dinov2-s", "other")


def test_clustering_finds_a_rare_class_that_chance_misses(tmp_path):
    bench = make_bench(200, n_rare=10)  # 5 % of the studies
    outcome = run(bench, tmp_path, budgets=(8,), n_seeds=10)
    found = {
        arm: [r.value for r in outcome.results if r.measure == "classes" and r.arm == arm]
        for arm in (RANDOM, Arm("kmeans", "selecting", "l2"))
    }
    assert found[Arm("kmeans", "selecting", "l2")] == [4.0] * 10
    assert np.mean(found[RANDOM]) < 3.8


def test_a_probe_that_saw_one_class_predicts_it():
    X = np.array([[0.0], [1.0], [2.0], [3.0]], np.float32)
    y = np.array([0, 0, 1, 1])
    half = np.array([0, 1, 0, 1])
    assert set(probe(X[:2], y[:2], X, y, half).values()) == {0.5}
    assert set(probe(X[[0, 3]], y[[0, 3]], X, y, half).values()) == {1.0}


def test_measures_are_means_over_the_classes():
    # class 0 ranked 1st and 3rd of three with one miss between: AUROC .5, average precision (1 + 2/3) / 2
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
    found = class_measures(probabilities, np.array([0, 1, 0]), np.array([0, 0, 1]))
    assert found["auroc"] == pytest.approx(0.5)
    assert found["auprc"] == pytest.approx(((1 + 2 / 3) / 2 + 1 / 2) / 2)
    assert found["balanced_accuracy"] == pytest.approx((1 / 2 + 0) / 2)
    assert found["auroc, half 0"] == 1.0  # .9 before .6
    assert np.isnan(found["auroc, half 1"])  # one study


@pytest.mark.parametrize("seed", range(5))
def test_auroc_is_that_of_scikit_learn_with_ties_too(seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(3, size=40)
    probabilities = rng.integers(5, size=(40, 3)) / 5
    found = class_measures(probabilities, y, np.arange(40) % 2)
    for name, rows in (("auroc", slice(None)), ("auroc, half 1", slice(1, None, 2))):
        each = [roc_auc_score(y[rows] == c, probabilities[rows, c]) for c in range(3)]
        assert found[name] == pytest.approx(np.mean(each))


def test_a_class_that_the_test_part_lacks_does_not_count():
    probabilities = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]] * 2)
    found = class_measures(probabilities, np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]))
    assert set(found.values()) == {1.0}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # while MONAI is imported
def test_a_small_network_learns_bright_from_dark_the_same_way_twice():
    rng = np.random.default_rng(0)
    y = np.arange(24) % 2
    views = (rng.integers(0, 60, (24, 2, 32, 32)) + 150 * y[:, None, None, None]).astype(np.uint8)
    half = np.arange(12) // 6
    first = network(views[:12], y[:12], views[12:], y[12:], half, 2, seed=1, n_steps=12)
    assert first["auroc"] > 0.95
    assert network(views[:12], y[:12], views[12:], y[12:], half, 2, seed=1, n_steps=12) == first


def test_everything_is_written_and_the_page_needs_no_other_file(tmp_path):
    outcome = run(make_bench(), tmp_path / "one", strategies=["kmeans", "ward"])
    files = write_outputs(tmp_path / "one", outcome, title="<Title>", notes=["a & b"], tests=True)
    names = {path.name for path in files}
    assert {"results.csv", "summary.csv", "headroom.csv", "tables.md", "index.html"} < names
    assert {"curve-probe-on-judging.png", "difference-probe-on-judging.png"} < names
    page = (tmp_path / "one" / "index.html").read_text(encoding="utf-8")
    assert "&lt;Title&gt;" in page
    assert "a &amp; b" in page
    assert page.count("data:image/png;base64,") == 2
    assert "http" not in page
    with (tmp_path / "one" / "results.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 3 * 2 * 4 * 4 + 2 * 4 * 2  # arms, budgets, seeds, measures; halves of the test part for random
    table = ranks_of([tmp_path / "one", tmp_path / "one"])
    assert [row[0] for row in table[1:]] == [row[0] for row in sorted(table[1:], key=lambda row: float(row[-1]))]
    with (tmp_path / "one" / "summary.csv").open("a", encoding="utf-8") as file:
        file.write("probe on judging,auroc,area,oracle,oracle,,,1,4,0.99" + "," * 12)
    assert ranks_of([tmp_path / "one", tmp_path / "one"]) == table  # what looks at the labels is not ranked
    with pytest.raises(ValueError, match=r"holds no summary\.csv"):
        ranks_of([tmp_path])


def test_the_same_run_writes_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        outcome = run(make_bench(), tmp_path / name)
        write_outputs(tmp_path / name, outcome, title="Title", notes=[], tests=False)
    for path in (tmp_path / "one").glob("*.*"):
        if path.suffix in {".csv", ".md", ".html", ".png"}:
            assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_an_example_shows_neither_intervals_nor_stars(tmp_path):
    outcome = run(make_bench(), tmp_path)
    write_outputs(tmp_path, outcome, title="Title", notes=[], tests=False)
    text = (tmp_path / "tables.md").read_text(encoding="utf-8")
    assert " to +" not in text
    assert "*" not in text


@pytest.fixture
def pictures(tmp_path):
    """Forty pictures of two brightnesses, with a table of classes."""
    from PIL import Image

    rng = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    lines = ["file,label"]
    for number in range(40):
        bright = number % 2
        array = rng.integers(0, 90, (32, 32)) + 120 * bright * (np.arange(32) > 9)
        Image.fromarray(array.astype(np.uint8)).save(tmp_path / "pictures" / f"{number:02}.png")
        lines.append(f"{number:02}.png,{'bright' if bright else 'dark'}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    return tmp_path


def command(folder, out, *more):
    return [
        *("compare", str(folder / "pictures"), "--labels", str(folder / "labels.csv"), "--out", str(folder / out)),
        *("--state", str(folder / "state"), "--encoders", "pixels", "--budgets", "3,6", "--seeds", "6"),
        *("--random-draws", "2", "--repeats", "1"),
        *("--strategies", "kmeans,ward,typiclust,consensus", "--conf", "n_workers", "1", *more),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--labels": "none.csv"}, "none.csv cannot be read: No such file"),
        ({"--encoders": "pixel"}, "encoder 'pixel' is not known. Did you mean 'pixels'?"),
        ({"--strategies": "kmean"}, "Did you mean 'kmeans'?"),
        ({"--scalings": "l3"}, "scaling 'l3' is not known"),
        ({"--budgets": "6,3"}, "budgets must be one or more rising numbers"),
        ({"--seeds": "0"}, "seeds must be 1 or more"),
        ({"--random-draws": "0"}, "random draws must be 1 or more; got 0"),
        ({"--repeats": "0"}, "repeats must be 1 or more; got 0"),
        ({"--scalings": "whiten:0"}, "scaling 'whiten:0' is not known. Of a number of components"),
        ({"--scalings": "l2:8"}, "scaling 'l2:8' is not known. Of a number of components, 1 or more, write pca:16"),
    ],
)
def test_a_users_error_is_one_line(pictures, capsys, change, message):
    more = [word for pair in change.items() for word in pair]  # of an option given twice, the last one counts
    assert main(command(pictures, "out", *more)) == 2
    assert message in capsys.readouterr().err
    assert not list((pictures / "out").glob("*.csv"))


@pytest.mark.slow
def test_an_unreadable_picture_is_left_out_and_noted(pictures, capsys):
    (pictures / "pictures" / "01.png").write_bytes(b"")
    assert main(command(pictures, "out")) == 0
    assert "Study 01.png was left out: 01.png is empty" in (pictures / "out" / "tables.md").read_text(encoding="utf-8")
    assert str(pictures / "out" / "index.html") in capsys.readouterr().out
    assert main(["ranks", str(pictures / "out")]) == 0
    assert "| random |" in capsys.readouterr().out


@pytest.mark.slow
def test_killed_three_times_it_gives_what_an_undisturbed_run_gives(pictures):
    arguments = [sys.executable, "-m", "firstpick.cli"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "monailabel_app")}
    subprocess.run([*arguments, *command(pictures, "whole")], check=True, capture_output=True, env=environment)
    counts = []
    for _ in range(3):
        process = subprocess.Popen(
            [*arguments, *command(pictures, "killed")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        before = counts[-1] if counts else 0
        while n_cells(pictures / "killed") < before + 6:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        counts.append(n_cells(pictures / "killed"))
    assert counts == sorted(set(counts))
    assert counts[-1] < n_cells(pictures / "whole")
    subprocess.run([*arguments, *command(pictures, "killed")], check=True, capture_output=True, env=environment)
    for path in sorted((pictures / "whole").glob("*.*")):
        if path.suffix in {".csv", ".md", ".html", ".png"}:
            assert path.read_bytes() == (pictures / "killed" / path.name).read_bytes(), path.name


def n_cells(folder):
    path = folder / "cells.sqlite"
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path)) as connection:
        try:
            return connection.execute("select count(*) from cells").fetchone()[0]
        except sqlite3.OperationalError:  # not made yet
            return 0
