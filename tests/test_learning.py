"""What labels teach, on arrays: agreement, the classifier, the mask, and when to stop."""

import numpy as np
import pytest

from firstpick.learning.agreement import dice_by_class, doubts
from firstpick.learning.features import Seen, fit_reduction
from firstpick.learning.model import fit
from firstpick.learning.predict import compact_classes, predict, scattered, without_islands
from firstpick.learning.sampling import Sampled, sample
from firstpick.learning.stack import Stack
from firstpick.learning.stop import correction, when_to_stop
from firstpick.learning.tokens import Tokens
from firstpick.voxels.views import ViewSpec
from firstpick.voxels.volumes import Volume

pytestmark = pytest.mark.usefixtures("few_steps")

NAMES = ["anterior", "posterior"]


def rng(seed=0):
    return np.random.default_rng(seed)


# -- agreement


def test_dice_counts_each_voxel_by_what_it_stands_for():
    found, truth = np.array([1, 1, 0, 2]), np.array([1, 0, 1, 2])
    np.testing.assert_allclose(dice_by_class(found, truth, 2), [0.5, 1.0])
    np.testing.assert_allclose(dice_by_class(found, truth, 2, np.array([6.0, 1, 1, 1])), [12 / 14, 1.0])
    assert np.isnan(dice_by_class(found, truth, 3)[2])


def doubted(dice, n_voxels=None):
    dice = np.array(dice, float)
    ids = [f"study {place}" for place in range(len(dice))]
    n_voxels = np.full(dice.shape, 100) if n_voxels is None else np.array(n_voxels)
    return doubts(ids, dice, n_voxels, NAMES[: dice.shape[1]])


def test_good_labels_are_not_doubted():
    assert doubted([[0.9, 0.8], [0.7, 0.75], [0.85, 0.9], [0.6, 0.55]]) == ()
    assert doubted([[0.2], [0.05], [0.1], [0.3], [0.0]]) == ()  # nothing is learnt yet: nobody is to blame


def test_a_label_that_disagrees_with_all_others_is_named():
    (doubt,) = doubted([[0.9, 0.8], [0.1, 0.2], [0.85, 0.9], [0.8, 0.7]])
    assert doubt.study_id == "study 1"
    assert "Dice 0.15, where the median of the others is 0.85" in doubt.sentence


def test_an_empty_label_and_one_without_a_class_are_named_each_as_what_it_is():
    few = doubted([[0.8, 0.8], [np.nan, 0.0], [0.8, 0.9], [0.7, 0.8], [0.9, 0.6]], [[9, 9], [0, 0], *[[9, 9]] * 3])
    assert [doubt.sentence for doubt in few] == ["Its label is empty; 4 of the 4 others are not."]
    few = doubted([[0.8, 0.8], [0.9, 0.0], [0.8, 0.9], [0.7, 0.8]], [[9, 9], [9, 0], [9, 9], [9, 9]])
    assert [doubt.sentence for doubt in few] == ["Its label has no posterior; those of all 3 others do."]


def test_where_empty_labels_are_common_they_are_findings():
    assert doubted([[np.nan], [0.8], [np.nan], [0.9], [0.8]], [[0], [9], [0], [9], [9]]) == ()


def test_three_labels_are_too_few_to_disagree():
    assert doubted([[0.9], [0.0], [0.9]]) == ()


# -- the classifier


def blobs(seed, n_studies=6, n=600):
    """Voxels of studies: two classes lie apart from background in the first feature; each voxel stands for one."""
    of = rng(seed)
    for _ in range(n_studies):
        y = of.integers(0, 3, n)
        X = np.column_stack([3.0 * y, *of.normal(size=(3, n))]) + 0.3 * of.normal(size=(n, 4))
        yield Sampled(X.astype(np.float32), y, np.ones(n, np.float32))


def test_a_model_finds_what_it_was_shown_and_is_the_same_each_time():
    samples = list(blobs(1))
    model, again = (fit(samples, 2, seed=3) for _ in range(2))
    (unseen,) = blobs(2, n_studies=1)
    said = model.probabilities(unseen.X)
    np.testing.assert_array_equal(said, again.probabilities(unseen.X))
    np.testing.assert_allclose(said.sum(axis=1), 1, atol=1e-5)
    assert (model.classify(said) == unseen.y).mean() > 0.95


def test_each_study_has_a_network_that_was_not_fitted_to_it():
    samples = list(blobs(1, n_studies=4))
    wrong = samples[2]
    samples[2] = Sampled(wrong.X, (wrong.y + 1) % 3, wrong.weights)  # its label says another thing than the others
    model = fit(samples, 2, seed=0)
    assert {study for out in model.without for study in out} == {0, 1, 2, 3}
    found = model.classify(model.held_out(2, wrong.X))
    assert (found == wrong.y).mean() > 0.9, "it must not have learnt the wrong label by heart"


# -- from a volume to a mask


def phantom(shift=0):
    """A bright block in noise, whose place is told by brightness alone."""
    array = rng(shift).normal(0, 0.05, (20, 24, 8)).astype(np.float32)
    label = np.zeros(array.shape, np.uint8)
    label[4 + shift : 12 + shift, 6:16, 2:6] = 1
    return Volume(array + label, (1.0, 1.0, 3.0)), label


def seen_and_classes(shift):
    volume, label = phantom(shift)
    stack = Stack(volume, ViewSpec(size=112))
    return Seen(stack), stack.of(label)


def test_a_draft_finds_a_bright_block_without_any_token():
    studies = [seen_and_classes(shift) for shift in range(4)]
    samples = [sample(seen, classes, range(8), rng()) for seen, classes in studies]
    seen, truth = seen_and_classes(6)
    found = predict(fit(samples, 1, seed=0), seen, compact=[1])
    assert dice_by_class(found.classes, truth, 1)[0] > 0.9
    assert 0 <= found.unsure < 0.8


@pytest.mark.parametrize(
    ("spacing", "is_picture"), [((1, 1, 3), False), ((3, 1, 1), False), ((1, 3, 1), False), ((1, 1, 1), True)]
)
def test_slices_lie_where_they_did_once_they_are_put_back(spacing, is_picture):
    array = rng().normal(size=(5, 6, 1 if is_picture else 4)).astype(np.float32)
    stack = Stack(Volume(array, tuple(map(float, spacing)), is_picture=is_picture), ViewSpec(size=112))
    assert stack.axis == (2 if is_picture else spacing.index(3))
    np.testing.assert_array_equal(stack.back(stack.of(array)), array)


def test_tokens_are_put_where_the_encoder_saw_them():
    """One token is unlike all others: the pixels that differ most lie where its patch is in the picture."""
    volume = Volume(np.zeros((40, 20, 1), np.float32), (1.0, 1.0, 1.0), is_picture=True)
    stack = Stack(volume, ViewSpec(size=112))
    tokens = np.zeros((1, 8, 8, 1), np.float32)
    tokens[0, 3, 6] = 1  # rows 2 to 5 of the picture hold the study, which is half as high as wide
    there = Seen(stack, np.array([0]), tokens, size=112).features(0)[..., -1]
    rows, columns = np.nonzero(there > 0.9 * there.max())
    np.testing.assert_allclose((rows.mean(), columns.mean()), (7, 32), atol=1)  # of 20 rows, and of 40 columns


def test_components_are_the_same_whatever_the_sign_and_never_more_than_there_are():
    rows = rng().normal(size=(2, 4, 4, 40)).astype(np.float16)
    reduction = fit_reduction([Tokens(np.arange(2), rows)])
    reduced = reduction.of(rows).reshape(-1, 16)
    np.testing.assert_allclose(np.cov(reduced, rowvar=False), np.eye(16), atol=0.05)


def test_islands_go_and_pieces_stay():
    classes = np.zeros((3, 30, 30), np.uint8)
    classes[:, 2:12, 2:12] = 1
    classes[:, 20:28, 20:28] = 1
    classes[1, 29, 0] = 1
    classes[0, 15, 15] = 2  # the only one of its class
    kept = without_islands(classes, [1, 2])
    assert (kept != classes).sum() == 1
    assert kept[1, 29, 0] == 0


# -- when to stop


def test_a_correction_says_how_far_and_how_much():
    draft = np.zeros((20, 20, 5), np.uint8)
    draft[5:15, 5:15] = 1
    same = correction(draft, draft, 1, (1, 1, 1))
    assert (same.dice, same.distance_mm, same.n_changed, same.n_voxels) == (1.0, 0.0, 0, 500)
    moved = correction(draft, np.roll(draft, 2, axis=0), 1, (1.5, 1, 1))
    assert moved.dice == pytest.approx(0.8)
    assert moved.distance_mm == pytest.approx(3.0)
    assert moved.n_changed == 2 * 2 * 10 * 5


def test_a_draft_that_is_all_wrong_has_no_distance():
    draft = np.zeros((6, 6), np.uint8)
    label = draft.copy()
    label[2:4, 2:4] = 1
    assert correction(draft, label, 1, (1, 1)).distance_mm is None
    assert correction(draft, label, 1, (1, 1)).dice == 0
    assert correction(draft, draft, 1, (1, 1)).dice == 1


def test_stopping_is_suggested_by_the_median_of_the_last_ones_alone():
    good = [0.2, 0.2, 0.95, 0.5, 0.92, 0.93, 0.94]
    assert "last 5 drafts" in when_to_stop(good, least=0.9, last=5)
    assert "median Dice 0.93" in when_to_stop(good, least=0.9, last=5)
    assert when_to_stop(good[:6], least=0.94, last=5) is None
    assert when_to_stop(good[:4], least=0.1, last=5) is None


def test_islands_are_kept_where_labels_have_them():
    """Cells of very different sizes are many pieces; an organ with a speck beside it is one."""
    cells = np.zeros((1, 40, 40), np.uint8)
    cells[0, :20, :30] = 1
    for row in range(25, 40, 5):
        cells[0, row : row + 3, ::4] = 1
    organ = np.zeros((1, 40, 40), np.uint8)
    organ[0, :20, :30] = 1
    organ[0, 35, 35] = 1
    assert compact_classes(np.array([scattered(cells, 1)])) == ()
    assert compact_classes(np.array([scattered(organ, 1)])) == (1,)
    np.testing.assert_array_equal(without_islands(cells, ()), cells)
    assert without_islands(organ, (1,))[0, 35, 35] == 0
