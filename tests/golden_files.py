"""Recorded answers under ``golden/``, and how to compare with them.

``FIRSTPICK_GOLDEN=write pytest tests -k golden`` records what is there now; each test that wrote says so as a
skip. A golden file changes only in a commit that says why.
"""

import contextlib
import difflib
import io
import json
import os
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from firstpick import __version__
from firstpick.cli import main

GOLDEN = Path(__file__).with_name("golden")
ROOT = Path(__file__).parents[1]


def _text(value):
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)


def _equal(found, recorded):
    lines = difflib.unified_diff(_text(recorded).splitlines(), _text(found).splitlines(), "recorded", "found", n=2)
    difference = "\n".join(lines)
    assert not difference, difference


def compare(name, key, found, same=_equal):
    """Compare with what is recorded under a key of ``golden/<name>.json``, or record it."""
    path = GOLDEN / f"{name}.json"
    recorded = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if os.environ.get("FIRSTPICK_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(_text(recorded | {key: found}) + "\n", encoding="utf-8")
        pytest.skip(f"recorded '{key}' in golden/{path.name}; read what git shows before you commit it")
    assert key in recorded, f"golden/{path.name} has no '{key}'; record it with FIRSTPICK_GOLDEN=write"
    same(found, recorded[key])


def plain(text, *folders):
    """A text without what differs from run to run: folders, ports, versions, and the last digits of fractions."""
    for number, folder in enumerate(folders):
        text = text.replace(str(folder), f"<folder {number}>")
    text = text.replace(str(ROOT), "<repository>")
    text = re.sub(rf"(?<![\d.]){re.escape(__version__)}(?![\d.])", "<version>", text)
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:<port>", text)
    return re.sub(r"-?\d+\.\d{5,}(e-?\d+)?", lambda number: f"{float(number.group()):.4g}", text)


def run(*arguments):
    """Run a command of the command line in this process: status, stdout, stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = end.code
    return status, out.getvalue(), err.getvalue()


def write_volumes(folder, n_studies):
    """Small volumes of four kinds; every one a little different."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(n_studies):
        array = np.random.default_rng(number).normal(0, 20, (20, 20, 20))
        start = number % 4 * 4
        array[start : start + 6, 3:10, 2 : 6 + number % 4 * 3] += 400 + 150 * (number % 4)
        nib.save(nib.Nifti1Image(array.astype(np.int16), np.eye(4)), folder / f"study_{number:02d}.nii.gz")
    return folder
