"""The board: who may do what, and what follows from it; pure, one small case a rule."""

import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firstpick.board.board import OPEN, RESERVED_SECONDS, Board, Refused, held_by
from firstpick.board.events import (
    FINAL,
    Event,
    Given,
    Labelled,
    Named,
    Noted,
    Proposed,
    Released,
    Renewed,
    Reopened,
    Reserved,
    Restored,
    SavedLabel,
    Skipped,
    Unlabelled,
    Unskipped,
    detail,
    from_text,
    seconds,
    to_text,
)
from firstpick.proposal import Pick, Proposal
from firstpick.studies import Slice

MINUTE = 60.0
HALF_AN_HOUR = RESERVED_SECONDS


def at(*numbers):
    """Axial slices, 5 mm apart."""
    return tuple(Slice("axial", number, 5.0 * number) for number in numbers)


def batch(strategy="kmeans", **slices):
    """A batch with some slices of some studies; () for a whole one."""
    picks = tuple(Pick(rank, study, 0.0, at(*own)) for rank, (study, own) in enumerate(slices.items(), start=1))
    return Proposal(strategy=strategy, encoder="e", batch_size=4, partial=False, picks=picks, provenance={})


def proposed(strategy="kmeans", tick=0.0, *, is_mended=False, **slices):
    return Proposed(proposal=batch(strategy, **slices), tick=tick, is_mended=is_mended)


def reserved(client="alice", study="a", tick=0.0, given=None, seconds=HALF_AN_HOUR, *, anonymous=False):
    return Reserved(study_id=study, client=client, tick=tick, given=given, seconds=seconds, anonymous=anonymous)


def labelled(client="alice", study="a", tag=FINAL, tick=0.0, *, given=None, **info):
    label = SavedLabel(".nii", "1-1", {"client_id": client, **info})
    return Labelled(study_id=study, client=client, tag=tag, label=label, tick=tick, given=given, at=tick)


def read(client, study="a"):
    """What comes of a label where each study needs several: the reading of one."""
    return labelled(client, study, f"reading-{client}")


def does(kind, client="alice", study="a", tick=0.0, **more):
    return kind(study_id=study, client=client, tick=tick, **more)


def status(board, study="a", now=0.0):
    return board.status(study, now)


def refusal(board, event):
    with pytest.raises(Refused) as refused:
        board.after(event)
    return refused.value


# -- reservations


def test_a_study_never_heard_of_is_open():
    assert status(Board()) == OPEN
    assert Board().shown(0.0, 1e9) == {}


def test_a_reservation_runs_out_by_the_tick_whatever_the_clock_says():
    event = Reserved(study_id="a", client="alice", seconds=HALF_AN_HOUR, tick=100.0, at=4e12)
    board = Board().after(event)
    assert status(board, now=100.0 + 29.9 * MINUTE).client == "alice"
    assert status(board, now=100.0 + 30.0 * MINUTE).status == "open"
    assert board.held(100.0) == {"a"}
    assert board.held(100.0 + 30.0 * MINUTE) == frozenset()
    assert board.first_open(["a"], "bob", 100.0 + 30.0 * MINUTE) == "a"
    assert status(board.after(reserved("bob", tick=3000.0)), now=3000.0).client == "bob"


def test_it_is_renewed_by_its_holder_alone_and_never_shortened():
    board = Board().after(reserved(seconds=240 * MINUTE), does(Renewed, tick=10.0, seconds=HALF_AN_HOUR))
    assert status(board).until == 240 * MINUTE
    board = board.after(does(Renewed, tick=239 * MINUTE, seconds=HALF_AN_HOUR))
    assert status(board).until == 269 * MINUTE
    assert status(board).taken == 0.0
    assert "in progress by alice" in str(refusal(board, does(Renewed, "bob", tick=9.0, seconds=9.0)))


def test_a_renewal_of_an_earlier_reservation_says_nothing_of_a_later_one():
    renewal = does(Renewed, tick=10.0, seconds=240 * MINUTE)
    again = [does(Released, tick=20.0), reserved(tick=30.0)]
    board = Board().after(reserved(), renewal, *again)
    assert board == Board().replayed([reserved(), *again, renewal])  # as the log keeps renewals
    assert status(board, now=30.0).until == 30.0 + HALF_AN_HOUR


def test_what_is_shown_says_until_when_by_the_clock():
    board = Board().after(reserved(tick=100.0), labelled("bob", "b"))
    shown = board.shown(now=100.0 + MINUTE, clock=1_000_000.0)
    assert shown["a"].until == 1_000_000.0 + 29 * MINUTE
    assert shown["b"].until == 0.0
    assert board.shown(now=100.0 + 31 * MINUTE, clock=-7.0)["a"] == status(board, now=9e9)


def test_the_first_open_study_of_a_ranking_is_offered():
    board = Board().after(reserved(), does(Skipped, study="b", reason="blurred"), labelled("bob", "c"))
    assert board.first_open("abcde", "bob", 0.0) == "d"
    assert board.first_open("abc", "bob", 0.0) is None
    assert board.first_open("abc", "alice", 0.0) is None  # what she has is no new one


def test_who_has_studies_gets_the_oldest_again():
    board = Board().after(reserved(tick=2.0), reserved(study="b", tick=1.0), reserved("bob", "c"))
    assert board.oldest_held("abc", "alice", 3.0) == "b"
    assert board.oldest_held("abc", "bob", 3.0) == "c"
    assert board.oldest_held("abc", "carol", 3.0) is None
    assert board.oldest_held("abc", "alice", 1.0 + HALF_AN_HOUR) == "a"  # the other ran out
    assert board.oldest_held("ac", "alice", 3.0) == "a"  # the other is not there now


def test_an_anonymous_reader_gets_what_another_one_left_more_than_30_minutes_ago_but_nothing_of_a_named_one():
    board = Board().after(
        reserved("alice", "a", seconds=240 * MINUTE),
        reserved("reader-1", "b", tick=5.0, seconds=240 * MINUTE, anonymous=True),
        reserved("reader-2", "c", tick=9.0, seconds=240 * MINUTE, anonymous=True),
    )
    assert board.oldest_held("abc", "reader-3", HALF_AN_HOUR, anonymous=True) is None
    assert board.oldest_held("abc", "reader-3", HALF_AN_HOUR + 5.0, anonymous=True) == "b"
    assert board.oldest_held("abc", "reader-3", HALF_AN_HOUR + 5.0) is None
    assert board.oldest_held("abc", "carol", HALF_AN_HOUR + 9.0) is None


# -- refusals


def test_a_refusal_says_in_a_sentence_who_has_it():
    board = Board().after(reserved("bob"))
    for event in (reserved(), does(Skipped, reason=""), does(Released), does(Renewed, seconds=1.0)):
        refused = refusal(board, event)
        assert str(refused) == "Study 'a' is in progress by bob."
        assert (refused.study_id, refused.status.client) == ("a", "bob")
    board = Board().after(does(Skipped, "bob", reason="blurred"))
    assert str(refusal(board, reserved())) == "Study 'a' was skipped by bob."
    board = Board().after(labelled("bob"))
    assert str(refusal(board, reserved("bob"))) == "Study 'a' was done by bob."
    assert str(refusal(board, does(Skipped, reason=""))) == "Study 'a' was done by bob."
    board = Board().after(labelled(""))
    assert str(refusal(board, reserved())) == "Study 'a' was done by somebody before."
    board = Board().after(read("bob"), read("alice"))
    sentence = "Study 'a' was read by bob and alice already: it is another reader's turn."
    assert str(refusal(board, reserved())) == sentence


def test_a_refusal_says_until_when_if_that_is_known():
    until = time.mktime((2026, 3, 4, 15, 7, 0, 0, 0, -1))
    shown = status(Board().after(reserved("bob"))).by_clock(until - HALF_AN_HOUR)
    assert held_by("Knee 3", shown) == "Study 'Knee 3' is in progress by bob until 15:07."


def test_of_several_events_none_is_kept_if_one_may_not_be():
    board = Board().after(reserved("bob"))
    with pytest.raises(Refused):
        board.after(does(Skipped, study="b", reason=""), reserved())
    assert status(board, "b") == OPEN


# -- giving back, skipping, reopening


def test_a_study_is_given_back_by_its_holder_alone():
    board = Board().after(reserved())
    refusal(board, does(Released, "bob"))
    assert status(board.after(does(Released))) == OPEN
    assert status(board.after(does(Released, "bob", tick=HALF_AN_HOUR)), now=HALF_AN_HOUR).status == "open"


def test_a_skip_is_for_everyone_and_can_be_undone_by_anyone():
    board = Board().after(reserved(), does(Skipped, reason="blurred"))
    assert (status(board).status, status(board).client, status(board).reason) == ("skipped", "alice", "blurred")
    assert board.first_open(["a"], "bob", 0.0) is None
    board = board.after(does(Unskipped, "bob"))
    assert status(board) == OPEN
    assert status(board.after(reserved(), does(Unskipped, "bob"))).status == "reserved"  # nothing to undo


def test_reopened_and_given_back_unchanged_is_done_again():
    done = Board().after(labelled("bob"))
    board = done.after(does(Reopened))
    assert (status(board).status, status(board).reopened_by) == ("open", "alice")
    for events in ([does(Released)], [reserved(), does(Released)]):
        again = status(board.after(*events))
        assert (again.status, again.client, again.reopened_by) == ("done", "bob", None)
    again = board.after(reserved(), does(Released, tick=HALF_AN_HOUR + 1.0))  # it ran out before
    assert status(again).status == "done"


def test_what_another_reader_gives_back_stays_open():
    board = Board().after(labelled("bob"), does(Reopened), reserved("carol"), does(Released, "carol"))
    assert (status(board).status, status(board).reopened_by) == ("open", "alice")
    assert status(board.after(reserved(), does(Released))).status == "done"


def test_a_study_without_its_label_is_not_done_by_giving_it_back():
    board = Board().after(labelled(), does(Reopened), reserved(), does(Unlabelled, "", tag=FINAL), does(Released))
    assert status(board).status == "open"


def test_only_a_done_study_is_reopened():
    assert status(Board().after(reserved(), does(Reopened))).status == "reserved"
    assert status(Board().after(does(Reopened))) == OPEN


# -- labels


def test_whoever_uploads_closes_the_study_and_the_holder_is_told():
    board = Board().after(reserved(), labelled("bob", tick=7.0))
    assert (status(board).status, status(board).client, status(board).since) == ("done", "bob", 7.0)
    assert str(refusal(board, does(Renewed, seconds=1.0))) == "Study 'a' was done by bob."


def test_saved_work_leaves_a_study_reserved():
    board = Board().after(reserved(), labelled(tag="saved-alice"))
    assert (status(board).status, status(board).until) == ("reserved", HALF_AN_HOUR)
    assert board.annotated == {}
    assert status(Board().after(labelled(tag="saved-alice"))).status == "open"


def test_a_label_of_a_skipped_study_counts():
    assert status(Board().after(does(Skipped, reason="blurred"), labelled("bob"))).status == "done"


def test_a_final_label_that_goes_opens_its_study_and_leaves_a_skipped_one():
    board = Board().after(labelled(), labelled(tag="saved-alice"))
    assert status(board.after(does(Unlabelled, tag="saved-alice"))).status == "done"
    gone = board.after(does(Unlabelled, tag=FINAL))
    assert (status(gone).status, status(gone).labels.keys(), gone.annotated) == ("open", {"saved-alice"}, {})
    skipped = board.after(does(Reopened), does(Skipped, reason=""), does(Unlabelled, tag=FINAL))
    assert status(skipped).status == "skipped"


def test_a_name_is_given_once_and_notes_add_up():
    board = Board().after(
        does(Named, name="one"),
        does(Named, name="two"),
        does(Noted, info={"x": 1, "y": 1}),
        does(Noted, info={"y": 2}),
        labelled(),
        does(Noted, tag=FINAL, info={"x": 1}),
        does(Noted, tag="saved-alice", info={"x": 1}),  # there is no such label
    )
    assert board.names == {"a": "one"}
    assert board.notes == {"a": {"x": 1, "y": 2}}
    assert status(board).labels == {FINAL: SavedLabel(".nii", "1-1", {"client_id": "alice", "x": 1})}


# -- what a label is of


KMEANS, RANDOM = Given("kmeans", at(1, 2)), Given("random", at(7))


def test_a_label_is_of_what_its_reader_was_given_whatever_was_proposed_since():
    board = Board().after(
        proposed(a=(1, 2)), reserved(given=KMEANS), proposed("random", a=(7,), b=()), proposed(c=()), labelled()
    )
    assert board.annotated == {"a": at(1, 2)}


def test_a_label_of_somebody_else_is_of_what_was_given_last():
    board = Board().after(reserved(given=KMEANS, tick=0.0), reserved("bob", given=RANDOM, tick=HALF_AN_HOUR))
    assert board.after(labelled("carol", tick=HALF_AN_HOUR)).annotated == {"a": at(7)}
    assert board.after(labelled("alice", tick=HALF_AN_HOUR)).annotated == {"a": at(1, 2)}
    board = board.after(reserved("alice", given=Given("kcenter", at(4)), tick=2 * HALF_AN_HOUR))
    assert board.after(labelled("", tick=2 * HALF_AN_HOUR)).annotated == {"a": at(4)}


def test_where_nobody_was_given_anything_it_is_of_what_was_proposed_by_then():
    board = Board().after(proposed(a=(1, 2)), proposed("random", b=(), a=(7,)))
    assert board.proposed("a") == RANDOM
    assert board.after(proposed(a=(1, 2))).proposed("a") == KMEANS  # the newest batch
    assert board.proposed("c") is None
    assert board.after(labelled(given=KMEANS)).annotated == {"a": at(1, 2)}
    assert board.after(labelled()).annotated == {"a": ()}


def test_slices_of_a_reopened_study_add_up_and_the_whole_study_holds_any():
    board = Board().after(reserved(given=KMEANS), labelled(), does(Reopened, "bob"), reserved("bob", given=RANDOM))
    assert board.annotated == {}
    board = board.after(labelled("bob"))
    assert board.annotated == {"a": at(1, 2, 7)}
    whole = board.after(does(Reopened), reserved("carol", given=Given("ward")), labelled("carol"))
    assert whole.annotated == {"a": ()}
    assert whole.after(does(Reopened), reserved(given=RANDOM), labelled()).annotated == {"a": ()}


def test_slices_of_a_deleted_label_do_not_count():
    board = Board().after(reserved(given=KMEANS), labelled(), does(Unlabelled, tag=FINAL))
    board = board.after(reserved("bob", given=RANDOM), labelled("bob"))
    assert board.annotated == {"a": at(7)}


# -- batches


def test_the_newest_batch_of_a_strategy_stands():
    board = Board().after(proposed(a=()), proposed("random", b=()), proposed(c=()))
    assert board.proposals == {"kmeans": batch(c=()), "random": batch("random", b=())}


def test_a_done_study_is_not_proposed():
    board = Board().after(proposed(a=(), b=()), labelled("bob"))
    assert str(refusal(board, proposed("random", b=(), a=()))) == "Study 'a' was done by bob."
    assert refusal(board, proposed(a=(), c=())).study_id == "a"  # of the former batch, but chosen before it was done
    assert board.after(does(Reopened), proposed("random", a=())).proposals["random"] == batch("random", a=())


def test_a_mended_batch_keeps_what_is_done_and_gets_no_done_study():
    board = Board().after(proposed(a=(), b=()), labelled("bob"), labelled("bob", "d"))
    assert board.after(proposed(a=(), c=(), is_mended=True)).proposals["kmeans"] == batch(a=(), c=())
    assert refusal(board, proposed(a=(), d=(), is_mended=True)).study_id == "d"


# -- several readers a study


def test_a_reading_leaves_the_study_to_another_reader():
    board = Board().after(reserved(), read("alice"))
    assert (status(board).status, status(board).read_by) == ("open", ("alice",))
    assert board.first_open(["a"], "alice", 0.0) is None
    assert board.first_open(["a"], "bob", 0.0) == "a"
    refusal(board, reserved())
    board = board.after(reserved("bob"), read("bob"), labelled("bob"))
    assert (status(board).status, status(board).read_by) == ("done", ("alice", "bob"))


def test_who_does_not_say_who_they_are_gets_each_study_once():
    board = Board().after(reserved("reader-1", anonymous=True), read("reader-1"))
    assert board.first_open("ab", "reader-2", 0.0, anonymous=True) == "b"
    assert board.first_open("ab", "alice", 0.0) == "a"
    board = board.after(reserved("alice"), read("alice"), labelled("alice"), does(Reopened))
    assert board.first_open("ab", "reader-2", 0.0, anonymous=True) == "b"
    assert Board().after(reserved(), read("alice")).first_open("ab", "reader-2", 0.0, anonymous=True) == "a"


def test_a_reading_of_somebody_else_leaves_the_holder():
    board = Board().after(reserved("bob"), read("alice"))
    assert (status(board).status, status(board).client) == ("reserved", "bob")


def test_a_reading_of_nobody_counts_for_nobody():
    anonymous = Labelled(study_id="a", tag="reading-alice", label=SavedLabel(".nii", "2-2", {}))
    board = Board().after(anonymous)
    assert status(board).read_by == ()
    assert status(board.after(does(Unlabelled, tag="reading-alice"))).read_by == ()


TWICE = (read("alice"), read("bob"), labelled("bob"))


def test_who_reopens_may_read_again_and_giving_it_back_leaves_both_readings():
    board = Board().after(*TWICE, does(Reopened))
    assert status(board).read_by == ("bob",)
    assert board.first_open(["a"], "alice", 0.0) == "a"
    refusal(board, reserved("bob"))
    assert status(board.after(does(Released))).read_by == ("alice", "bob")
    assert status(board.after(read("alice"))).read_by == ("bob", "alice")


def test_what_somebody_else_reopens_is_read_again_by_who_read_it_last():
    board = Board().after(*TWICE, does(Reopened, "carol"))
    assert status(board).read_by == ("alice",)
    assert board.first_open(["a"], "bob", 0.0) == board.first_open(["a"], "carol", 0.0) == "a"


def test_a_study_whose_label_was_deleted_is_somebody_s_turn():
    board = Board().after(*TWICE)
    gone = [does(Unlabelled, "", tag=tag) for tag in (FINAL, "reading-bob")]
    for events in (gone[:1], gone, gone[::-1]):
        assert status(board.after(*events)).read_by == ("alice",)
    assert status(board.after(*gone, does(Unlabelled, "", tag="reading-alice"))).read_by == ()


# -- sums


def test_each_reader_s_sums():
    board = Board().after(
        labelled("alice", "a", seconds=60.5),
        labelled("alice", "b", seconds=30),
        labelled("bob", "c", seconds="long"),
        labelled("", "d", seconds=9.0),
        labelled("carol", "e"),
        does(Reopened, study="e"),
        does(Skipped, "bob", "f", reason="blurred"),
        reserved("dora", "g"),
        labelled("dora", "g", tag="saved-dora", seconds=5.0),
    )
    sums = {name: (one.n_done, one.n_skipped, one.seconds) for name, one in board.readers.items()}
    assert sums == {"alice": (2, 0, 90.5), "bob": (1, 1, 0.0)}


def test_of_a_study_with_several_readers_each_reading_counts_once():
    board = Board().after(read("alice"), read("bob"), labelled("bob"), read("carol", "b"))
    assert {name: one.n_done for name, one in board.readers.items()} == {"alice": 1, "bob": 1, "carol": 1}


@pytest.mark.parametrize("said", [-1, float("inf"), float("nan"), 10**400, "5", None, [5]])
def test_seconds_that_cannot_be_are_none(said):
    board = Board().after(labelled(seconds=said))
    assert board.readers["alice"].seconds == 0.0


def test_studies_by_status():
    board = Board().after(labelled(), reserved(study="b"), does(Skipped, study="c", reason=""), reserved(study="d"))
    board = board.after(does(Released, study="d"))
    assert board.with_status("done") == {"a"}
    assert board.with_status("done", "skipped") == {"a", "c"}
    assert board.reserved == {"b"}


# -- as text

words = st.text(st.characters(exclude_categories=()), max_size=6)  # lone surrogates, too
numbers = st.floats(-1e18, 1e18) | st.integers(-9, 2**60)
ticks = st.floats(0, 1e9)
plain = st.recursive(
    st.none() | st.booleans() | numbers | words,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=2),
    max_leaves=4,
)
infos = st.dictionaries(words | st.sampled_from(["client_id", "seconds", "checksum"]), plain, max_size=3)
slices = st.builds(Slice, st.sampled_from(["axial", "coronal"]), st.integers(0, 99), st.floats(0, 500))
givens = st.builds(Given, words, st.lists(slices, max_size=2).map(tuple))
labels = st.builds(SavedLabel, st.sampled_from([".nii.gz", ".seg.nrrd"]), words, infos)
ids, clients = st.sampled_from(["a", "b", "\udcff", "constructor"]), st.sampled_from(["alice", "bob", "", "\ud800"])
tags = st.sampled_from([FINAL, "saved-alice", "reading-alice", "reading-bob"])
lasting = st.floats(0, 1e6)
proposals = st.builds(
    Proposal,
    strategy=st.sampled_from(["kmeans", "random"]),
    encoder=words,
    batch_size=st.integers(1, 9),
    partial=st.booleans(),
    picks=st.lists(
        st.builds(Pick, st.integers(1, 9), ids, st.floats(0, 9), st.lists(slices, max_size=2).map(tuple), title=words),
        max_size=3,
    ).map(tuple),
    provenance=infos,
)
FIELDS = {
    Proposed: {"proposal": proposals, "is_mended": st.booleans()},
    Reserved: {"seconds": lasting, "given": st.none() | givens, "anonymous": st.booleans()},
    Renewed: {"seconds": lasting},
    Released: {},
    Skipped: {"reason": words},
    Unskipped: {},
    Labelled: {"tag": tags, "label": labels, "given": st.none() | givens},
    Unlabelled: {"tag": tags},
    Reopened: {},
    Named: {"name": words},
    Noted: {"info": infos, "tag": tags | st.just("")},
    Restored: {"known_until": numbers.map(float)},
}


def any_event(ticks=ticks):
    return st.one_of(
        st.builds(kind, study_id=ids, client=clients, at=st.floats(0, 1e12), tick=ticks, **fields)
        for kind, fields in FIELDS.items()
    )


def test_every_kind_of_event_is_tried():
    assert set(Event.__args__) == FIELDS.keys()


def read_back(event):
    return from_text(event.at, event.tick, event.kind, to_text(event))


@settings(deadline=None, max_examples=200)
@given(any_event())
def test_an_event_is_text_and_back(event):
    text = to_text(event)
    assert text.isascii()
    assert read_back(event) == event
    assert isinstance(detail(event), str)
    assert 0.0 <= seconds(event) < math.inf


@settings(deadline=None, max_examples=100)
@given(st.lists(any_event(), max_size=25))
def test_what_is_replayed_is_what_was_decided_and_never_two_hold_a_study(events):
    kept, board = [], Board()
    for event in sorted(events, key=lambda event: event.tick):
        before = board.status(event.study_id, event.tick)
        try:
            board = board.after(event)
        except Refused:
            continue
        kept.append(event)
        if isinstance(event, Reserved | Renewed):
            assert before.status == "open" or (before.status, before.client) == ("reserved", event.client)
        assert all(status.annotated is not None for status in board.statuses.values() if status.status == "done")
    assert Board().replayed(map(read_back, kept)) == board
    assert all(one.n_done or one.n_skipped for one in board.readers.values())
