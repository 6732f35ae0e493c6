"""How long it takes to list a folder of many DICOM files, the first time and again.

Run by hand: ``python tests/benchmarks/listing_speed.py``; 10,000 files of 100 series, all in one folder, unless
``--series`` and ``--slices`` say otherwise. Processor seconds do not mind what else the machine does.
"""
# ruff: noqa: T201  a script prints

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from firstpick.sources.folder import Eligibility, list_studies

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import Phantom  # the one writer of DICOM

RULES = {"no rule": Eligibility(), "min_slices: 2": Eligibility(min_slices=2)}


def main():
    parser = argparse.ArgumentParser(description="Seconds to list a folder of DICOM files.")
    parser.add_argument("--series", type=int, default=100, help="default 100")
    parser.add_argument("--slices", type=int, default=100, help="of each series (default 100)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), options.series, options.slices)
        for name, rule in RULES.items():
            known = {}
            for when in ("first", "again"):
                start, cpu = time.perf_counter(), time.process_time()
                studies, _ = list_studies(folder, rule, known=known)
                wall, cpu = time.perf_counter() - start, time.process_time() - cpu
                print(f"{name}, {when}: {len(studies)} studies, {wall:.2f} s, of the processor {cpu:.2f} s")


def write(folder, n_series, n_slices):
    phantom, pixels = Phantom(folder), np.zeros((16, 16), np.int16)
    for series in range(n_series):
        for number in range(n_slices):
            phantom.dicom(
                f"s{series}_{number}.dcm",
                pixels,
                SeriesInstanceUID=f"1.2.3.{series}",
                StudyInstanceUID=f"1.2.4.{series}",
                PatientID=f"P{series}",
                InstanceNumber=number,
                ImagePositionPatient=[0, 0, 3.0 * number],
                ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
                PixelSpacing=[1, 1],
            )


if __name__ == "__main__":
    main()
