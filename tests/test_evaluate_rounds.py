"""Rounds on labelled data: they begin alike, go where the labels leave it unsure, and can be broken off."""

import csv
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from firstpick.cli import main
from firstpick.evaluate.arms import Arm
from firstpick.evaluate.bench import Bench
from firstpick.evaluate.grid import Cells
from firstpick.evaluate.judges import mask_judges
from firstpick.evaluate.patches import Patches, patch_entropy
from firstpick.evaluate.rounds import draw_patches, owner_of, play
from firstpick.evaluate.rounds_page import gains_of
from firstpick.evaluate.rounds_run import ARMS, SAME, Start, arms_of_rounds, play_rounds, seen_of
from firstpick.evaluate.run import Plan
from firstpick.evaluate.summary import summarise
from firstpick.selection import select
from firstpick.studies import Slice, Study

# MONAI warns of torch.jit while it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
N, N_PATCHES, N_RARE = 40, 12, 6
SIZES = (4, 6, 9)
START = Start(Arm("kmeans", "pixels", "l2"), n_firsts=2)


def world(seed=0, *, slices=False, noise=0.5):
    """Four studies of a kind, thirty like them that show more, and six of another kind; what chooses first sees noise.

    Half of the patches are background and half an organ: in the other kind along axes of its own, in the thirty along
    those of the first four, only farther out, and along another one besides. So they are unlike the four, but who
    knows those takes nothing of them for something else.
    """
    rng = np.random.default_rng(seed)
    label = np.tile(np.arange(N_PATCHES) % 2, (N, 1)).astype(np.uint8)
    axis = label + 2 * (np.arange(N) >= N - N_RARE)[:, None]
    shows_more = ((np.arange(N) >= 4) & (np.arange(N) < N - N_RARE))[:, None, None]
    means = np.where(shows_more, 10 * (np.eye(8)[axis] + np.eye(8)[4]), 5 * np.eye(8)[axis])
    tokens = (means + rng.normal(scale=noise, size=means.shape)).astype(np.float16)
    bench = Bench(
        studies=tuple(Study(f"study {row // 2 * 2 if slices else row:02}", "1", "") for row in range(N)),
        groups=("",) * N,
        classes=(),
        masks=tuple(Study(f"mask {row:02}", "1", "") for row in range(N)),
        features={"pixels": rng.normal(size=(N, 5)).astype(np.float32)},
        fingerprints={"pixels": "s"},
        slices=tuple(Slice("axial", row % 2, 9.0 * (row % 2)) for row in range(N)) if slices else (),
    )
    return bench, Patches(tokens, label)


def run(folder, *, executor=None, strategies=ARMS, n_seeds=3, budgets=SIZES):
    bench, patches = world(noise=4)
    plan = Plan(arms_of_rounds(strategies, n_draws=4, n_repeats=2), budgets, n_seeds=n_seeds, test_fraction=0.25)
    judges = mask_judges([], ["organ"], patches, encoder="dinov2-s", train=False)
    with closing(Cells(folder)) as cells, ThreadPoolExecutor(1) as threads:
        work = play_rounds(bench, judges, patches, START, plan, cells, executor or threads, n_waiting=2)
        while True:
            try:
                next(work)
            except StopIteration as end:
                return end.value


@pytest.mark.parametrize("seed", range(4))
def test_entropy_coverage_goes_to_the_kind_that_the_labels_say_nothing_of(seed):
    bench, patches = world(seed)
    seen, X = seen_of(bench, patches, np.arange(N)), bench.features["pixels"]
    rounds = play(X, "entropy_coverage", [0, 1, 2, 3], (4, 5, 6), {}, seed, seen)
    assert [len(labelled) for labelled in rounds] == [4, 5, 6]
    assert rounds[2][:5] == rounds[1]
    assert rounds[1][:4] == rounds[0] == [0, 1, 2, 3]
    assert rounds[1][4] >= N - N_RARE
    alike = replace(seen.weighed(rounds[0], seed), weights=None)
    assert select("entropy_coverage", X, 1, labelled=rounds[0], patches=alike).indices[0] < N - N_RARE
    before, after = (seen.weighed(known, seed).weights.reshape(N, -1).mean(axis=1) for known in rounds[:2])
    assert before[-N_RARE:].mean() > 3 * before[4:-N_RARE].mean()
    assert after[-N_RARE:].mean() < 0.75 * before[-N_RARE:].mean()  # one label of that kind teaches it


def test_entropy_is_in_bits_and_without_two_labels_all_is_as_unsure():
    X = np.array([[[-2.0], [2.0]]] * 20, np.float32)
    y = np.array([[0, 1]] * 20, np.uint8)
    found = patch_entropy(X, y, np.array([[0.0], [-0.5], [-6.0]], np.float32), seed=0)
    assert found[0] == pytest.approx(1.0, abs=1e-3)
    assert 1 > found[1] > found[2] > 0
    np.testing.assert_array_equal(patch_entropy(X, 0 * y, np.zeros((3, 1), np.float32), seed=0), 1.0)


def test_what_is_not_labelled_tells_nothing():
    bench, patches = world()
    hidden = Patches(patches.tokens, patches.label.copy())
    hidden.label[4:] = 1 - hidden.label[4:]
    pool = np.arange(N)
    here, there = (seen_of(bench, one, pool).weighed([0, 1, 2, 3], 0) for one in (patches, hidden))
    np.testing.assert_array_equal(here.weights, there.weights)


def test_patches_are_drawn_once_each_and_from_every_row():
    drawn = draw_patches(5, 30, 8, seed=1)
    assert drawn.shape == (5, 8)
    assert (np.diff(drawn, axis=1) > 0).all()
    assert len({tuple(row) for row in drawn.tolist()}) == 5
    np.testing.assert_array_equal(draw_patches(2, 3, 8, seed=1), [[0, 1, 2]] * 2)
    assert owner_of(drawn[:2, :2]).tolist() == [0, 0, 1, 1]


def test_all_arms_of_a_split_begin_alike_and_random_goes_on_in_its_own_way(tmp_path):
    outcome = run(tmp_path)
    dice = [r for r in outcome.results if r.measure == "dice"]
    for seed in range(3):
        for first in range(2):
            own = [r for r in dice if r.seed == seed and r.arm.draw % 2 == first]
            assert len({r.value for r in own if r.budget == SIZES[0]}) == 1
    rows = [row for row in summarise(outcome, SAME) if row.measure == "dice"]
    assert {row.arm.strategy for row in rows} == {"random", *ARMS}
    assert {row.difference.mean for row in rows if row.budget == SIZES[0] and row.difference} == {0.0}
    unlike = {r.value for r in dice if r.arm.strategy == "random" and (r.seed, r.budget) == (0, SIZES[-1])}
    assert len(unlike) > 1


def test_gains_add_up_to_what_the_last_round_has_above_the_first(tmp_path):
    outcome = run(tmp_path, strategies=("same",), n_seeds=1)
    own = {r.budget: r.value for r in outcome.results if r.arm == SAME and r.measure == "dice"}
    gained = {r.budget: r.value for r in gains_of(outcome).results if r.arm == SAME and r.measure == "dice"}
    assert set(gained) == {6, 9}
    assert sum(gained.values()) == pytest.approx(own[9] - own[4])


def test_rounds_that_are_broken_off_give_what_undisturbed_ones_give(tmp_path):
    class Failing(ThreadPoolExecutor):
        left = 8

        def submit(self, function, /, *arguments):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return super().submit(function, *arguments)

    n_interrupted = 0
    for _ in range(20):
        try:
            with Failing(1) as executor:
                resumed = run(tmp_path / "resumed", executor=executor, n_seeds=1)
            break
        except KeyboardInterrupt:
            n_interrupted += 1
    assert n_interrupted >= 3
    assert resumed == run(tmp_path / "whole", n_seeds=1)


def test_of_a_study_with_a_labelled_slice_no_other_slice_is_chosen():
    bench, _ = world(slices=True)
    places = [(s.study_id, s.at.plane, s.at.position_mm) for s in bench.samples]
    rounds = play(bench.features["pixels"], "random", [0, 5, 9], (3, 10, 17), {"slices": places}, 0)
    assert len({bench.studies[row].study_id for row in rounds[-1]}) == len(rounds[-1]) == 17


def test_a_strategy_that_is_not_known_is_told():
    with pytest.raises(ValueError, match="strategy 'entropy' is not known"):
        arms_of_rounds(["same", "entropy"], n_draws=1, n_repeats=1)


@pytest.fixture
def pictures(tmp_path):
    """Sixteen pictures with a bright square somewhere, and their masks."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(16):
        image, mask = rng.integers(0, 90, (40, 40)).astype(np.uint8), np.zeros((40, 40), np.uint8)
        x, y = rng.integers(4, 20, 2)
        image[x : x + 14, y : y + 14] += 120
        mask[x : x + 14, y : y + 14] = 1
        for folder, content in (("images", image), ("masks", mask)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(content).save(tmp_path / folder / f"{number:02}.png")
    (tmp_path / "classes.csv").write_text("study,class\n" + "".join(f"{n:02},{n % 2}\n" for n in range(16)))
    return tmp_path


def compare(folder, labels, *more):
    arguments = ["compare", str(folder / "images"), "--labels", str(folder / labels), "--out", str(folder / "out")]
    arguments += ["--state", str(folder / "state"), "--conf", "n_workers", "1", "--conf", "encoder", "pixels"]
    return main([*arguments, *more])


@pytest.mark.slow
def test_the_command_plays_rounds_and_tells_gains_and_differences_to_both(pictures):
    more = ("--rounds", "3,5,7", "--seeds", "2", "--repeats", "1", "--random-draws", "2")
    assert compare(pictures, "masks", *more) == 0
    text = (pictures / "out" / "tables.md").read_text(encoding="utf-8")
    assert "On each split 1 first batches by kmeans, pixels, l2" in text
    for title in ("dice, patches", "difference to same", "gained since the round before; difference to random"):
        assert title in text
    assert "kin to that arm" in (pictures / "out" / "index.html").read_text(encoding="utf-8")
    with (pictures / "out" / "results.csv").open(encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if line["measure"] == "dice"]
    assert {line["arm"] for line in lines} == {"random", *ARMS}
    assert {line["budget"] for line in lines} == {"3", "5", "7"}


@pytest.mark.parametrize(
    ("labels", "rounds", "message"),
    [
        ("classes.csv", "3,5", "rounds need a mask of each study"),
        ("masks", "3", "rounds are two or more rising numbers"),
        ("masks", "5,3", "rounds are two or more rising numbers"),
    ],
)
def test_what_is_wrong_with_rounds_is_said(pictures, capsys, labels, rounds, message):
    assert compare(pictures, labels, "--rounds", rounds) == 2
    assert message in capsys.readouterr().err
