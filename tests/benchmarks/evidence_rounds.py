"""Our evidence on rounds: what to label next, on four pools with masks.

``python tests/benchmarks/evidence_rounds.py slices --seeds 8`` plays 5, 10 and 20 labels and writes
``evidence/rounds/slices``; what is done is never run again, and what stands after the name is handed on to
``firstpick compare``. With ``--train``, which goes into a folder of its own, networks judge too.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from evidence_pools import prepare

from firstpick.cli import main

SLICES = ("unit", "slice", "views.planes", "[axial]", "views.every_mm", "8")
OWN = {
    "hippocampus": ("hippocampus", ()),
    "slices": ("hippocampus", SLICES),
    "membrane": ("membrane", ()),
    "nerve_us": ("nerve_us", ()),
}
"""Each pool: the data set, and its keys of the configuration."""


def run():
    """Play the rounds on one pool."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pool", choices=OWN)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[3] / "shared" / "data")
    parser.add_argument("--out", type=Path, default=Path("evidence/rounds"))
    options, more = parser.parse_known_args()
    name, keys = OWN[options.pool]
    ready = prepare(name, "masks", options.data, options.out)
    pairs = [word for pair in zip(keys[::2], keys[1::2], strict=True) for word in ("--conf", *pair)]
    out = options.out / f"{options.pool}{'-trained' if '--train' in more else ''}"
    return main(
        [
            *("compare", str(ready.images), "--labels", str(ready.labels), "--rounds", "5,10,20", "--out", str(out)),
            *("--state", str(options.out / f"state-{options.pool}"), *ready.options, *pairs, *more),
        ]
    )


if __name__ == "__main__":
    raise SystemExit(run())
