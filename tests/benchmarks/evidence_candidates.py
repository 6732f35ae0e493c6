"""Other representations of the same studies, to be tested against the default's (a part of `evidence.py`)."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from firstpick.encoders import EncoderSpec, build_encoder
from firstpick.evaluate.arms import Arm, draws_of
from firstpick.evaluate.grid import result_of
from firstpick.voxels.volumes import read_volume

OF = "dinov2-s"
WITH_SPREAD = f"{OF} + spread"
CANDIDATES = (WITH_SPREAD, f"{OF} + efficientnet-lite0", f"{OF} + pixels")
"""Each is rows of unit length side by side. Spread: the deviation of each patch token's component over a study."""


def candidate_arms(n_repeats):
    """Return the default strategy on every candidate."""
    return [one for name in CANDIDATES for one in draws_of(Arm("kmeans", name, "l2"), n_repeats)]


def with_candidates(bench, state, executor):
    """Add the candidates' rows to the features of a pool; what takes long is kept in the folder ``state``."""
    path = state / f"spread-{bench.fingerprint[:12]}.npy"
    if not path.exists():
        todo = [executor.submit(_spread, study) for study in bench.studies]
        np.save(path, np.stack([result_of(future) for future in todo]))
    parts = {"spread": np.load(path, allow_pickle=False), **bench.features}
    features = {name: np.concatenate([_unit(parts[part]) for part in name.split(" + ")], axis=1) for name in CANDIDATES}
    return replace(
        bench,
        features={**bench.features, **features},
        fingerprints={**bench.fingerprints, **{name: f"{bench.fingerprints[OF]} {name}" for name in CANDIDATES}},
    )


def _unit(X):
    return X / np.linalg.norm(X, axis=1, keepdims=True).clip(1e-12)


@lru_cache(maxsize=1)
def _encoder():
    return build_encoder(EncoderSpec(OF))


def _spread(study):
    """Deviation of the tokens of all patches of all views, shape (dim,), float32."""
    tokens = _encoder().patch_rows(_encoder().parts(read_volume(study)))
    return tokens.reshape(-1, tokens.shape[-1]).std(axis=0)
