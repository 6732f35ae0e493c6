"""The batch with and without each safeguard, on real studies: ``python tests/benchmarks/safeguards.py``.

Three folders are made of the 195 hippocampus volumes: one in which a patient has 60 % of the studies, one in which
30 % are copies under other names, stored anew in another type, and one with five scans of pure noise. Each is embedded
by the command's own code, and every strategy chooses 20 studies with its safeguards off, then with the one in question.
"""
# ruff: noqa: T201  a script prints

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
from tqdm import tqdm

from firstpick.embedding.cache import Cache
from firstpick.embedding.run import embed
from firstpick.encoders import EncoderSpec
from firstpick.proposal import propose
from firstpick.selection import STRATEGIES, Guards
from firstpick.sources.attributes import with_attributes
from firstpick.sources.folder import Eligibility, list_studies
from firstpick.workers import LocalPool

IMAGES = Path(__file__).resolve().parents[3] / "shared" / "data" / "hippocampus" / "images"
N_PICKS = 20


def main():
    parser = argparse.ArgumentParser(description="The batch with and without each safeguard, as a Markdown table.")
    parser.add_argument("--studies", type=Path, default=IMAGES, help="folder of NIfTI volumes")
    parser.add_argument("--strategies", nargs="+", default=sorted(STRATEGIES))
    options = parser.parse_args()
    files = sorted(options.studies.glob("*.nii.gz"))
    cases = (
        ("picks of the patient with 60 % of the studies", one_patient, Guards(max_per_group=1)),
        ("picks that repeat another pick (30 % are copies)", copies, Guards(duplicates=0.9995)),
        ("picks that are one of five noise scans", noise, Guards(outliers="last")),
    )
    counts = {}
    with tempfile.TemporaryDirectory() as folder:
        for place, (_, make, guards) in enumerate(cases):
            studies = Path(folder, str(place), "studies")
            studies.mkdir(parents=True)
            count = make(files, studies)
            pool = embedded(studies, Path(folder, str(place), "state"))
            for strategy in tqdm(options.strategies, file=sys.stderr):
                for used in (Guards(), guards):
                    proposal = propose(pool, strategy=strategy, batch_size=N_PICKS, guards=used)
                    counts[place, strategy, used == guards] = count([pick.study_id for pick in proposal.picks])
    print(f"| strategy, {N_PICKS} picks | {' | '.join(name for name, *_ in cases)} |")
    print(f"|---|{'---|' * len(cases)}")
    for strategy in options.strategies:
        cells = (f"{counts[place, strategy, False]} → {counts[place, strategy, True]}" for place in range(len(cases)))
        print(f"| `{strategy}` | {' | '.join(cells)} |")


def one_patient(files, folder):
    """Name the studies after patients."""
    for number, file in enumerate(files):
        patient = "big" if number % 5 < 3 else f"p{number:03d}"
        (folder / f"{patient}_{number:03d}.nii.gz").symlink_to(file)
    return lambda ids: sum(study_id.startswith("big") for study_id in ids)


def copies(files, folder):
    """Store every third study twice."""
    for number, file in enumerate(files):
        (folder / f"s{number:03d}.nii.gz").symlink_to(file)
        if number % 10 < 4:
            image = nib.load(file)
            nib.save(
                nib.Nifti1Image(image.get_fdata(dtype=np.float32), image.affine), folder / f"copy_s{number:03d}.nii"
            )
    return lambda ids: len(ids) - len(Counter(study_id.removeprefix("copy_") for study_id in ids))


def noise(files, folder):
    """Add five volumes of noise."""
    for number, file in enumerate(files):
        (folder / f"s{number:03d}.nii.gz").symlink_to(file)
    rng = np.random.default_rng(0)
    for number in range(5):
        voxels = rng.normal(500, 200, (35, 50, 36)).astype(np.float32)
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), folder / f"noise_{number}.nii.gz")
    return lambda ids: sum(study_id.startswith("noise") for study_id in ids)


def embedded(folder, state):
    studies, _ = list_studies(folder, Eligibility(follow_links=True))
    spec, cache = EncoderSpec(), Cache(state)
    with LocalPool() as workers, tqdm(total=len(studies), file=sys.stderr) as bar:
        for progress in embed(studies, spec, cache, executor=workers):
            bar.update(progress.n_done + progress.n_failed - bar.n)
    pool = cache.pool(spec.fingerprint(), studies)
    cache.close()
    return with_attributes(pool, studies, groups_by="id:^(big|p[0-9]+)_", strata_by="")


if __name__ == "__main__":
    main()
