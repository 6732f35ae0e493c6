"""Embedding: all that can be embedded is, once; what dies or hangs takes only itself down."""

import os
from concurrent import futures
from contextlib import closing

import numpy as np
import pytest

from firstpick.cluster import ClusterError
from firstpick.embedding import chunk, plan
from firstpick.embedding.cache import Cache
from firstpick.embedding.chunk import embed_chunk
from firstpick.embedding.plan import chunks
from firstpick.embedding.run import embed
from firstpick.encoders import EncoderSpec
from firstpick.encoders.pixels import Pixels
from firstpick.sources.folder import list_studies
from firstpick.studies import Study
from firstpick.voxels.views import ViewSpec
from firstpick.workers import LocalPool, WorkersLostError

SPEC = EncoderSpec(name="pixels", views=ViewSpec(size=32, per_plane=1))


class Inline:
    """Runs a task at once in this process, or dies on it as a test wants."""

    def __init__(self, dies=lambda chunk: None):
        self.dies = dies
        self.chunks = []

    def submit(self, function, chunk, spec):
        self.chunks.append([study.study_id for study in chunk])
        future = futures.Future()
        error = self.dies(chunk)
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(function(chunk, spec))
        return future


@pytest.fixture
def studies(phantom_volume):
    for number in range(12):
        phantom_volume.nifti(f"studies/case_{number:02d}.nii", array=np.roll(phantom_volume.array, number, axis=0))
    return list_studies(phantom_volume.folder / "studies")[0]


def test_every_study_is_embedded_with_thumbnail_and_progress(studies, cache):
    steps = list(embed(studies, SPEC, cache, executor=Inline()))
    pool = cache.pool(SPEC.fingerprint(), studies)
    assert pool.study_ids == tuple(f"case_{number:02d}.nii" for number in range(12))
    assert all(cache.thumbnail(study).startswith(b"\x89PNG") for study in studies)
    assert (steps[0].n_done, steps[-1].n_done, steps[-1].n_total) == (0, 12, 12)
    assert steps[-1].rate > 0
    assert steps[-1].seconds_left == 0
    assert min(steps[-1].stages.values()) > 0


def test_a_study_has_the_same_embedding_alone_and_in_any_chunk(studies):
    together = embed_chunk(studies, SPEC)
    for item in together.embedded:
        alone = embed_chunk([item.study], SPEC).embedded[0]
        np.testing.assert_allclose(alone.vectors[0], item.vectors[0], rtol=1e-5)


def test_batches_cross_studies_within_a_bound_on_bytes(studies, monkeypatch):
    sizes = []
    encode = Pixels.encode

    def spy(self, parts):
        sizes.append(len(parts))
        return encode(self, parts)

    monkeypatch.setattr(Pixels, "encode", spy)
    embed_chunk(studies, SPEC)
    assert sizes == [33, 3]  # three views each
    monkeypatch.setattr(chunk, "_BATCH_BYTES", 6 * 32 * 32 * 3 * 4)
    sizes.clear()
    embed_chunk(studies, SPEC)
    assert sizes == [6] * 6


@pytest.mark.parametrize("name", ["dinov2-s", "pixels"])
def test_a_volume_stored_with_other_axes_but_the_right_affine_has_the_same_embedding(phantom_volume, name):
    phantom_volume.array = np.random.default_rng(0).integers(0, 1000, phantom_volume.array.shape).astype(np.int16)
    for axes in ("RAS", "LPI", "ASR", "IRP"):
        phantom_volume.nifti(f"turned/{axes}.nii", axes=axes)
    turned, _ = list_studies(phantom_volume.folder / "turned")
    spec = EncoderSpec(name=name, views=ViewSpec(size=56))
    vectors = [item.vectors[0] for item in embed_chunk(turned, spec).embedded]
    assert len(vectors) == 4
    for vector in vectors[1:]:
        cosine = vector @ vectors[0] / np.linalg.norm(vector) / np.linalg.norm(vectors[0])
        assert cosine > 0.999
    mirrored = phantom_volume.nifti("mirrored/other.nii", array=phantom_volume.array[::-1])
    other = embed_chunk(list_studies(mirrored.parent)[0], spec).embedded[0].vectors[0]
    assert np.abs(other - vectors[0]).max() > 1e-3  # the law above is not empty


def test_a_second_run_embeds_nothing_and_a_new_file_only_itself(studies, cache, phantom_volume):
    list(embed(studies, SPEC, cache, executor=Inline()))
    again = Inline()
    assert list(embed(studies, SPEC, cache, executor=again))[-1].n_done == 12
    assert again.chunks == []
    phantom_volume.nifti("studies/new.nii")
    listed, _ = list_studies(phantom_volume.folder / "studies")
    list(embed(listed, SPEC, cache, executor=again))
    assert again.chunks == [["new.nii"]]


def test_an_unreadable_study_does_not_disturb_the_others(studies, cache, phantom_volume):
    (phantom_volume.folder / "studies" / "case_05.nii").write_bytes(b"")
    listed, _ = list_studies(phantom_volume.folder / "studies")
    last = list(embed(listed, SPEC, cache, executor=Inline()))[-1]
    assert (last.n_done, last.n_failed) == (11, 1)
    (failure,) = cache.failures(SPEC.fingerprint(), listed)
    assert (failure.study_id, failure.reason) == ("case_05.nii", "case_05.nii is empty (0 bytes).")


def test_a_study_deleted_while_it_waits_fails_alone(studies, cache):
    os.unlink(studies[3].source)  # noqa: PTH108
    last = list(embed(studies, SPEC, cache, executor=Inline()))[-1]
    assert (last.n_done, last.n_failed) == (11, 1)


def test_a_dead_chunk_is_retried_study_by_study_and_a_killed_study_once_more(studies, cache):
    deaths = []

    def dies(chunk):
        guilty = any(study.study_id == "case_02.nii" for study in chunk)
        deaths.append(guilty)
        return OSError("worker died") if guilty and sum(deaths) < 3 else None

    executor = Inline(dies)
    assert list(embed(studies, SPEC, cache, executor=executor))[-1].n_done == 12
    assert executor.chunks.count(["case_02.nii"]) == 2


def test_of_what_is_lost_with_workers_only_who_loses_them_alone_and_at_the_end_is_to_blame(studies, cache):
    lost = {"case_00.nii", "case_01.nii", "case_02.nii", "case_05.nii"}  # some beside the guilty one

    def dies(chunk):
        names = {study.study_id for study in chunk}
        guilty = "case_02.nii" in names
        beside = bool(names & lost) and "case_11.nii" not in str(executor.chunks)
        return WorkersLostError() if guilty or beside else None

    executor = Inline(dies)
    last = list(embed(studies, SPEC, cache, executor=executor))[-1]
    assert (last.n_done, last.n_failed) == (11, 1)
    (failure,) = cache.failures(SPEC.fingerprint(), studies)
    assert failure.study_id == "case_02.nii"
    assert "ended two workers of the cluster" in failure.reason
    sent = [name for chunk in executor.chunks for name in chunk]
    assert sorted(sent[:12]) == [study.study_id for study in studies], "a suspect came before others were through"
    assert sorted(sent[12:]) == ["case_00.nii", "case_01.nii", "case_02.nii", "case_05.nii"]
    assert all(len(chunk) == 1 for chunk in executor.chunks[-4:])


def test_a_lost_cluster_stops_the_run_and_no_study_is_to_blame(studies, cache):
    away = Inline(lambda chunk: ClusterError("The scheduler was lost.") if "case_05.nii" in str(chunk) else None)
    with pytest.raises(ClusterError, match="lost"):
        list(embed(studies, SPEC, cache, executor=away))
    assert cache.failures(SPEC.fingerprint(), studies) == []


def test_a_study_that_hangs_alone_is_given_up_with_the_reason(studies, cache):
    hangs = Inline(
        lambda chunk: futures.TimeoutError() if any(study.study_id == "case_02.nii" for study in chunk) else None
    )
    last = list(embed(studies, SPEC, cache, executor=hangs))[-1]
    assert (last.n_done, last.n_failed) == (11, 1)
    assert "longer than the time limit" in cache.failures(SPEC.fingerprint(), studies)[0].reason
    assert hangs.chunks.count(["case_02.nii"]) == 1


def test_when_a_chunk_runs_out_of_time_all_others_are_cut_into_single_studies(studies, cache):
    hurried = Inline(lambda chunk: futures.TimeoutError() if len(chunk) > 1 else None)
    last = list(embed(studies, SPEC, cache, executor=hurried))[-1]
    assert (last.n_done, last.n_failed) == (12, 0)
    n_waiting = 2 * (os.cpu_count() or 1) + 1  # were sent before the first ran out of time
    assert sum(len(chunk) > 1 for chunk in hurried.chunks) <= n_waiting


def test_a_failure_is_tried_again_by_another_process_and_not_by_the_same(studies, cache):
    broken = Inline(lambda chunk: futures.TimeoutError() if chunk[0].study_id == "case_00.nii" else None)
    list(embed(studies[:1], SPEC, cache, executor=broken))
    assert list(embed(studies[:1], SPEC, cache, executor=Inline()))[-1].n_failed == 1
    with closing(Cache(cache.path.parent)) as of_another_process:
        last = list(embed(studies[:1], SPEC, of_another_process, executor=Inline()))[-1]
        assert (last.n_done, last.n_failed) == (1, 0)


def test_small_studies_share_a_chunk_and_series_and_large_files_go_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "_CHUNK_BYTES", 1000)
    sizes = {"a": 10, "b": 10, "c": 2000, "d": 10, "e": 990, "f": 10}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(bytes(size))
    listed = [Study(name, "", str(tmp_path / name)) for name in sizes]
    listed.insert(2, Study("series", "", str(tmp_path), files=("1.dcm", "2.dcm")))
    ids = [[study.study_id for study in chunk] for chunk in chunks([*listed, *listed[:1] * 40])]
    assert ids[:5] == [["a", "b"], ["series"], ["c"], ["d", "e"], ["f", *"a" * 7]]


def test_chunks_get_smaller_towards_the_end_so_that_workers_finish_together():
    sizes = [len(chunk) for chunk in chunks([Study("a", "", "nowhere")] * 60)]
    assert sizes == [8, 8, 8, 8, 7, 5, 4, 3, 2, 1, 1, 1, 1, 1, 1, 1]


def test_a_second_run_waits_for_the_first_and_shows_its_progress(studies, cache):
    first = embed(studies, SPEC, cache, executor=Inline())
    next(first)  # holds the lock now
    second = embed(studies, SPEC, cache, executor=Inline())
    assert next(second).n_done == 0
    list(first)
    assert list(second)[-1].n_done == 12


@pytest.mark.slow
def test_real_worker_processes_embed_everything(studies, cache):
    with LocalPool(n_workers=2) as pool:
        last = list(embed(studies, SPEC, cache, executor=pool))[-1]
    assert (last.n_done, last.n_failed) == (12, 0)
