"""Which round a batch is of, what chooses it, and what is said of it."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from firstpick.config import ConfigError, load_config
from firstpick.learning.uncertainty import Uncertainty
from firstpick.proposal import advise, in_round, propose, read_proposal, round_of, with_replacement
from firstpick.studies import Pool, Sample

NAMES = "abcdefghijkl"
FREE = frozenset(NAMES)


@pytest.fixture
def pool():
    vectors = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    return Pool(tuple(Sample(name) for name in NAMES), vectors)


@pytest.fixture
def known():
    """Nothing is unsure but what study k shows, and l a little of it."""
    rows = np.eye(12, dtype=np.float16)
    rows[11, 10:] = 0.6, 0.8
    bits = np.where(np.isin([*NAMES], ["k"]), 1.0, 0.0).astype(np.float32)
    return Uncertainty(tuple(Sample(name) for name in NAMES), rows, np.arange(12), bits, ("one", "two"))


def batch(pool, **others):
    return propose(pool, strategy="kmeans", batch_size=3, **others)


# -- which round


def test_a_batch_before_any_label_is_of_the_first_round(pool):
    first = batch(pool)
    assert (round_of(None, FREE), first.round) == (1, 1)
    assert round_of(first, []) == 1


def test_labels_of_picks_and_of_others_begin_another_round(pool):
    first = batch(pool)
    others = sorted(FREE - {pick.study_id for pick in first.picks})
    assert round_of(first, [first.picks[0].study_id]) == 2
    assert round_of(first, others[:1]) == 2


def test_labels_that_a_batch_knew_begin_none(pool):
    known = batch(pool, labelled=["a", "b"])
    assert round_of(known, ["a", "b"]) == 1
    assert round_of(known, ["a"]) == 1, "one was deleted"
    assert round_of(replace(known, round=4), ["a", "b", "c", "d", "e"]) == 5


# -- what is said


def test_what_was_asked_for_who_chose_and_the_remark_stay_when_a_pick_is_replaced(pool):
    made = in_round(batch(pool), 2, asked="ward", remark="Chosen by kmeans, for now.", unsure=dict.fromkeys(FREE, 0.01))
    assert (made.strategy, made.chosen_by, made.round) == ("ward", "kmeans", 2)
    assert made.note == "Chosen by kmeans, for now."
    assert all(pick.reason.endswith("of the tenth of studies that they say least about.") for pick in made.picks)
    gone, *others = (pick.study_id for pick in made.picks)
    mended = with_replacement(made, pool, gone, labelled=[], excluded=[])
    assert (mended.note, mended.round, mended.chosen_by) == (made.note, 2, "kmeans")
    said = {pick.study_id: "least about" in pick.reason for pick in mended.picks}
    assert {study_id for study_id, is_said in said.items() if is_said} == {*others}, "of the new one nothing is known"


def test_a_remark_comes_after_a_shortage(pool):
    made = in_round(propose(pool, strategy="kmeans", batch_size=99), 1, asked="kmeans", remark="And more.")
    assert made.note == "Only 12 of the 99 asked for: no more unlabelled studies. And more."


def test_a_proposal_from_before_rounds_is_of_the_first(pool):
    from pydantic_core import to_jsonable_python

    data = to_jsonable_python(batch(pool))
    del data["round"]
    for pick in data["picks"]:
        del pick["unsure"]
    assert read_proposal(data) == batch(pool)


# -- what is configured


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        (
            {"strategy": "entropy_coverage"},
            "needs labels.* set next_round: entropy_coverage",
        ),
        (
            {"next_round": "entropy_coverage"},
            "needs what the labels teach: set drafts.enabled: true",
        ),
        ({"next_round": "entropy_coverag"}, "Did you mean 'entropy_coverage'.*Or 'same'"),
        ({"next_round": "entropy_coverage", "drafts.model": "m", "drafts.enabled": "true"}, "leave drafts.model empty"),
        ({"next_round": "sam"}, "next_round: strategy 'sam' is not known"),
    ],
)
def test_a_strategy_that_cannot_choose_is_refused(keys, says):
    with pytest.raises(ConfigError, match=says):
        load_config(None, keys)


def test_any_strategy_may_choose_the_next_round():
    assert load_config().next_round == "same"
    assert load_config(None, {"next_round": "ward"}).next_round == "ward"
    assert load_config(None, {"next_round": "entropy_coverage", "drafts.enabled": "true"}).next_round


# -- what chooses


monailabel = pytest.importorskip("monailabel", reason="pip install 'firstpick[server]'")

with warnings.catch_warnings():  # of what MONAI Label imports
    warnings.simplefilter("ignore")
    from firstpick.server.chooser import chooser, nothing_learnt


def config(next_round="entropy_coverage"):
    return load_config(None, {"next_round": next_round, "drafts.enabled": "true"})


def refuse():
    msg = "Nothing is to be asked."
    raise AssertionError(msg)


def test_the_first_round_and_other_strategies_choose_by_themselves(pool):
    assert chooser(config(), "kmeans", 1, pool, refuse, FREE).strategy == "kmeans"
    assert chooser(config(), "ward", 2, pool, refuse, FREE).strategy == "ward"
    assert chooser(config("same"), "kmeans", 2, pool, refuse, FREE).strategy == "kmeans"
    assert chooser(config("ward"), "kmeans", 2, pool, refuse, FREE).strategy == "ward"


def test_the_second_round_is_chosen_by_what_the_labels_leave_unsure(pool, known):
    by = chooser(config(), "kmeans", 2, pool, lambda: known, FREE - {"a"})
    assert (by.strategy, by.remark) == ("entropy_coverage", "")
    made = propose(pool, batch_size=1, labelled=["a"], patches=by.patches, **config().choice(by.strategy))
    made = in_round(made, 2, asked="kmeans", unsure=by.unsure)
    assert [pick.study_id for pick in made.picks] == ["k"]
    assert made.picks[0].unsure == 0
    assert (made.strategy, made.chosen_by) == ("kmeans", "entropy_coverage")


def test_it_is_said_which_labels_taught_it_and_how_much_of_the_batch_is_chance(pool, known):
    by = chooser(config(), "kmeans", 2, pool, lambda: known, FREE)
    assert by.taught == chooser(config(), "kmeans", 2, pool, lambda: replace(known, marks=("two", "one")), FREE).taught
    assert by.taught != chooser(config(), "kmeans", 2, pool, lambda: replace(known, marks=("two",)), FREE).taught
    choice = {**config().choice(by.strategy), "patches": by.patches}
    made = in_round(propose(pool, batch_size=2, **choice), 2, asked="kmeans", taught=by.taught)
    assert made.provenance["taught"] == by.taught
    assert 0 < advise(made, pool, n_repeats=2, **choice).jaccard_seeds <= 1


def test_what_is_not_known_yet_is_said_and_the_first_strategy_chooses(pool):
    by = chooser(config(), "kmeans", 2, pool, lambda: "3 of 12 studies have been looked at.", FREE)
    assert (by.strategy, by.patches) == ("kmeans", None)
    assert by.remark == "Chosen by kmeans, not yet by entropy_coverage: 3 of 12 studies have been looked at."
    by = chooser(load_config(), "entropy_coverage", 1, pool, nothing_learnt, FREE)
    assert by.strategy == "kmeans"
    assert "needs drafts.enabled" in by.remark


def test_of_a_large_pool_some_studies_are_chosen_among(pool, known):
    few = replace(known, samples=known.samples[:9], rows=known.rows[:9], owner=known.owner[:9], bits=known.bits[:9])
    by = chooser(config(), "kmeans", 2, pool, lambda: few, FREE)
    assert by.remark == "Chosen among 9 of the 12 studies, which were looked at."
