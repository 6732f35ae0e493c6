"""What share of its time the process that encodes waits for those that read, by how many these are.

Run by hand: ``python tests/benchmarks/encoder_waiting.py``. On a GPU one process encodes what others read. Here the
encoder of that process is a stand-in on the CPU, as fast as a GPU would be: a small graph (``onnx:FILE``) through the
real pipeline, or ``--encoder NAME``. Of the time from the first encoded batch to the end of the run, what is not spent
encoding is waiting: for a chunk that is read, and for its parts to arrive.
"""
# ruff: noqa: T201  a script prints

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from firstpick.embedding.cache import Cache
from firstpick.embedding.run import embed
from firstpick.encoders import EncoderSpec
from firstpick.sources.folder import list_studies
from firstpick.voxels.views import ViewSpec
from firstpick.workers import LocalPool, n_cores

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SIDE, STRIDE, DIM = 112, 8, 64
HEAD = ("readers", "parts a second", "encoding, ms a part", "reading and viewing, ms a part", "waits")


def main():
    parser = argparse.ArgumentParser(description="How long the process that encodes waits for those that read.")
    parser.add_argument("--studies", type=Path, default=DATA / "hippocampus" / "images", help="folder with the studies")
    parser.add_argument("--limit", type=int, default=96, help="only the first so many studies (default 96)")
    parser.add_argument("--readers", type=int, nargs="+", default=(1, n_cores()), help="how many read, run by run")
    parser.add_argument("--encoder", help="an encoder instead of the stand-in")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    studies = list_studies(options.studies)[0][: options.limit]
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    with tempfile.TemporaryDirectory() as folder:
        spec = EncoderSpec(options.encoder or f"onnx:{stand_in(Path(folder))}", views=ViewSpec(size=SIDE))
        runs = {n_readers: [] for n_readers in options.readers}
        for _ in range(options.repeats):
            for n_readers, found in runs.items():
                found.append(measured(studies, spec, n_readers))
    for n_readers, found in runs.items():
        rate, encoding, reading, waits = (statistics.median(numbers) for numbers in zip(*found, strict=True))
        print(f"| {n_readers} | {rate:.0f} | {encoding:.1f} | {reading:.1f} | {waits:.0%} |")


def stand_in(folder):
    """Write a graph of one convolution, which gives a map."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(DIM, 3, STRIDE, STRIDE)).astype(np.float32)
    pictures = helper.make_tensor_value_info("pictures", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])
    maps = helper.make_tensor_value_info("maps", TensorProto.FLOAT, ["n", DIM, SIDE // STRIDE, SIDE // STRIDE])
    nodes = [
        helper.make_node("Conv", ["pictures", "kernel"], ["places"], strides=[STRIDE, STRIDE]),
        helper.make_node("Relu", ["places"], ["maps"]),
    ]
    graph = helper.make_graph(nodes, "stand-in", [pictures], [maps], [numpy_helper.from_array(kernel, "kernel")])
    path = folder / "stand_in.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def measured(studies, spec, n_readers):
    """Parts a second, ms a part of encoding and of reading, and the share of waiting, once the first batch is there."""
    with (
        tempfile.TemporaryDirectory() as state,
        closing(Cache(Path(state))) as cache,
        LocalPool(n_workers=n_readers) as pool,
    ):
        *_, last = embed(studies, spec, cache, executor=pool, apart=1)
    seconds = last.seconds - last.stages["starting"]
    if last.n_done != len(studies):
        sys.exit(f"{last.n_failed} studies could not be embedded.")
    reading = last.stages["reading"] + last.stages["viewing"]
    encoding = last.stages["encoding"]
    return last.n_parts / seconds, encoding / last.n_parts * 1000, reading / last.n_parts * 1000, 1 - encoding / seconds


if __name__ == "__main__":
    main()
