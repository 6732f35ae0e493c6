"""Looking at the studies of a pool for the next round: what is done when, and what is said when it cannot be done."""

import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("monailabel", reason="pip install 'firstpick[server]'")

from room import Now

from firstpick.board.board import Board
from firstpick.config import load_config
from firstpick.embedding.cache import Cache, Embedded
from firstpick.learning.draft import Labelled
from firstpick.learning.uncertainty import Uncertainty
from firstpick.learning.work import Teaching
from firstpick.studies import Slice, Study
from firstpick.voxels.labels import checksum

with warnings.catch_warnings():  # of what MONAI Label imports
    warnings.simplefilter("ignore")
    from firstpick.server.looker import Looker
    from firstpick.server.snapshot import Snapshot


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    """An encoder that sees a quarter of the pixels is four times as fast."""
    for module in ("look", "draft"):
        monkeypatch.setattr(f"firstpick.learning.{module}.SIZE", 112)


class Here(Now):
    """Runs what may take longer in the same way."""

    submit_slow = Now.submit


class World:
    """A pool of three small studies with a bright block each, their labels, and what looks at them."""

    def __init__(self, folder, slices=((),) * 3, **keys):
        self.folder = folder
        keys = {"encoder": "random-init", "next_round": "entropy_coverage", "drafts.enabled": "true", **keys}
        self.config = load_config(None, keys)
        self.studies = [self.study(f"{name}.nii.gz", seed) for seed, name in enumerate("abc")]
        self.cache = Cache(folder)
        self.now = Snapshot(self.config, self.cache)
        vectors = np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float32)
        rows = [
            Embedded(study, own[: len(at) or 1], at, b"PNG", (), "")
            for study, own, at in zip(self.studies, vectors, slices, strict=True)
        ]
        self.cache.put(self.now.fingerprint, rows)
        self.now.take_listing(self.studies, [])
        self.now.take_pool()
        self.looker = Looker(self.config, self.now, folder=folder / "patches", executor=Here())

    def study(self, name, seed):
        array = np.random.default_rng(seed).normal(0, 0.1, (24, 24, 2)).astype(np.float32)
        array[6 + seed : 18, 6:18] += 1
        path = self.folder / name
        nib.save(nib.Nifti1Image(array, np.eye(4)), path)
        nib.save(nib.Nifti1Image((array > 0.5).astype(np.uint8), np.eye(4)), self.folder / f"label_{name}")
        return Study(name, str(seed), str(path))

    def teaching(self, *studies, slices=()):
        labels = [(study, self.folder / f"label_{study.study_id}") for study in studies]
        labelled = tuple(Labelled(study, path, checksum(path), 0.0, slices) for study, path in labels)
        return Teaching(labelled, self.config.encoder_spec, (("foreground", 1),), self.folder / "tokens", 1.0, 0)

    def work(self, teaching=None):
        """Do all that is due; how many things it was."""
        return sum(1 for _ in iter(lambda: self.looker.work(teaching, Board(), self.now.studies), False))

    def known(self, *marks):
        return self.looker.known(dict(enumerate(marks)))


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.cache.close()


def test_studies_are_looked_at_before_there_are_labels_and_each_lesson_is_weighed_once(world):
    assert world.work() == 3
    assert world.known() == "No labels have been learnt from yet."
    teaching = world.teaching(*world.studies)
    assert world.work(teaching) == 1
    assert world.work(teaching) == 0
    known = world.known(*teaching.marks, "of a newer label")
    assert {*known.of_study} == {study.study_id for study in world.studies}
    assert world.looker.message == "What 3 labels leave unsure is known of 3 studies."

    # A label that is gone makes it void.
    assert world.known(*teaching.marks[1:]).startswith("A label was deleted or drawn anew")
    fewer = world.teaching(*world.studies[1:])
    assert world.work(fewer) == 1
    assert world.known(*fewer.marks).marks == fewer.marks
    assert (world.known(*fewer.marks).bits != known.bits).any()
    world.work(None)
    assert world.known(*fewer.marks) == "No labels have been learnt from yet."


def test_a_damaged_file_is_made_again_and_old_ones_are_deleted(world):
    world.work()
    folder = world.folder / "patches"
    (folder / "of another encoder.npz").write_bytes(b"")
    next(folder.glob("[0-9a-f]*.npz")).write_bytes(b"damaged")
    teaching = world.teaching(*world.studies[:2])
    assert world.work(teaching) == 3, "found damaged, looked at again, weighed"
    assert isinstance(world.known(*teaching.marks), Uncertainty)
    assert len([*folder.iterdir()]) == 3


def test_a_study_that_cannot_be_read_is_passed_over_and_labels_that_teach_nothing_are_said_to(world):
    Path(world.studies[2].source).write_bytes(b"no picture")
    teaching = world.teaching(*world.studies[:2])
    world.work(teaching)
    assert {*world.known(*teaching.marks).of_study} == {"a.nii.gz", "b.nii.gz"}
    for study in world.studies[:2]:
        empty = nib.Nifti1Image(np.zeros((24, 24, 2), np.uint8), np.eye(4))
        nib.save(empty, world.folder / f"label_{study.study_id}")
    teaching = world.teaching(*world.studies[:2])
    assert world.work(teaching) == 1
    assert world.known(*teaching.marks) == "All labelled patches are of one class: nothing can be told apart yet."
    assert world.work(teaching) == 0


def test_of_slices_the_very_samples_are_looked_at_and_those_nobody_annotated_are_left_out(tmp_path):
    one, other = Slice("axial", 0, 0.0), Slice("coronal", 12, 12.0)
    world = World(tmp_path, slices=((one, other),) * 3, unit="slice")
    teaching = world.teaching(*world.studies[:2], slices=(one,))
    world.work(teaching)
    known = world.known(*teaching.marks)
    assert np.bincount(known.owner).tolist() == [16, 8] * 3, "of the coronal one, two rows, there is a single row"
    assert known.samples == world.now.pool.samples
    trimmed = world.now.pool.trimmed({study.study_id: (one,) for study in world.studies[:2]})
    assert np.bincount(known.patches(trimmed).owner).tolist() == [16, 16, 16, 8]
    world.cache.close()


def test_an_encoder_without_patches_is_said_to_have_none(tmp_path):
    world = World(tmp_path, encoder="pixels")
    assert world.work(world.teaching(*world.studies)) == 1
    assert world.known() == "Encoder 'pixels' has no patches. Take one of the DINOv2 family."
    world.cache.close()
