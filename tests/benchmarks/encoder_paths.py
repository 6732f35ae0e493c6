"""How an encoder runs fastest on this processor, and how far its rows are then from those of float32, as a table.

Run by hand: ``python tests/benchmarks/encoder_paths.py``. Views of pictures of MedNIST, all six classes; the ways take
turns, so that a busy machine slows all of them alike. Seconds are those of the processor, on ``--threads`` threads.
What is made ready once (a graph, a compilation, the calibration of int8 on views of four kinds) stands in a column of
its own. OpenVINO is measured where it is installed. Then how many of twenty picks are the same on rows of bfloat16, for
the default encoder on three sets of data.
"""
# ruff: noqa: T201  a script prints

from __future__ import annotations

import argparse
import copy
import importlib.util
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from firstpick.encoders import EncoderSpec, build_encoder, efficientnet
from firstpick.selection import select
from firstpick.voxels.volumes import read_volume

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
ENCODERS = ("dinov2-s", "efficientnet-lite0")
SETS = ("hippocampus", "nerve_us", "polyp_kvasir")
STRATEGIES = ("kmeans", "typiclust", "ward", "facility_location", "kcenter")
N_VIEWS = 24
N_STUDIES, N_PICKS = 300, 20
CALIBRATION, N_CALIBRATION = ("hippocampus", "nerve_us", "polyp_kvasir", "mednist"), 4


class Views(CalibrationDataReader):
    """What int8 is calibrated on, batch by batch."""

    def __init__(self, batches):
        self._batches = iter(batches)

    def get_next(self):
        batch = next(self._batches, None)
        return None if batch is None else {"views": batch.numpy()}


def ways_of(network, batches, others, folder, n_threads):
    """Yield names, and functions that turn what the network sees of a few views into what it gives.

    A way is made ready between two names: a graph, a compilation, the first batch.
    """
    path, narrow = folder / "network.onnx", folder / "int8.onnx"

    def session(path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = n_threads
        made = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda views: torch.from_numpy(made.run(None, {"views": views.numpy()})[0])

    def in_bfloat16(views):
        with torch.autocast("cpu", torch.bfloat16):
            return network(views).float()

    yield "torch, float32", network
    rows = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    yield "torch, float32, channels first", rows
    yield "torch, bfloat16", in_bfloat16
    yield "torch.compile, float32", torch.compile(network)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a tracer: for this number of views alone
        torch.onnx.export(network, (batches[0],), path, input_names=["views"], dynamo=False)
    yield "ONNX Runtime, float32", session(path)
    quant_pre_process(path, folder / "shapes.onnx")
    quantize_static(folder / "shapes.onnx", narrow, Views(others), per_channel=True)
    yield "ONNX Runtime, int8", session(narrow)
    if importlib.util.find_spec("openvino"):
        import openvino  # no part of FirstPick: pip install openvino

        for kind in ("f32", "bf16"):
            settings = {"INFERENCE_NUM_THREADS": n_threads, "INFERENCE_PRECISION_HINT": kind}
            made = openvino.Core().compile_model(path, "CPU", settings)
            yield f"OpenVINO, {kind}", lambda views, made=made: torch.from_numpy(made(views.numpy())[0].copy())


def torch_network(encoder, name):
    """The encoder's network in torch, whatever FirstPick runs."""
    if name != "efficientnet-lite0":
        return encoder._network
    return efficientnet.features(EncoderSpec(name).resolved()).eval().to(memory_format=torch.channels_last)


@torch.inference_mode()
def measure(name, files, n_threads, n_rounds):
    """Print a line for each way."""
    encoder = build_encoder(EncoderSpec(name))
    views = encoder.prepare(np.concatenate([encoder.parts(read_volume(file)) for file in files])).contiguous()
    size = encoder._batch
    batches = views[: len(views) // size * size].split(size)
    some = [file for kind in CALIBRATION for file in sorted((DATA / kind / "images").iterdir())[:N_CALIBRATION]]
    others = encoder.prepare(np.concatenate([encoder.parts(read_volume(file)) for file in some])).contiguous()
    others = others[: len(others) // size * size].split(size)
    ways, ready = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        for way, run in ways_of(torch_network(encoder, name), batches, others, Path(folder), n_threads):
            run(batches[0])
            ways[way], ready[way] = run, time.process_time() - start
            start = time.process_time()
        rows, seconds = {}, {way: [] for way in ways}
        for _ in range(n_rounds):
            for way, run in ways.items():
                start = time.process_time()
                found = [encoder._pool(run(batch)) for batch in batches]
                seconds[way].append((time.process_time() - start) / len(views) * 1000)
                rows[way] = torch.cat(found)
    first = next(iter(ways))
    for way in ways:
        ratio = np.median(np.divide(seconds[way], seconds[first]))
        cosine = torch.nn.functional.cosine_similarity(rows[way], rows[first]).min()
        numbers = f"{ready[way]:.1f} | {np.median(seconds[way]):.1f} | {ratio:.2f} | {cosine:.5f}"
        print(f"| {name} | {way} | {numbers} |", flush=True)


def same_picks(name):
    """Print how many picks of each strategy are the same on rows of float32 and of bfloat16."""
    encoder = build_encoder(EncoderSpec(ENCODERS[0]))
    rows = []
    for file in sorted((DATA / name / "images").iterdir())[:N_STUDIES]:
        parts = encoder.parts(read_volume(file))
        with torch.autocast("cpu", torch.bfloat16):
            narrow = encoder.encode(parts).mean(axis=0)
        rows.append((encoder.encode(parts).mean(axis=0), narrow))
    exact, narrow = np.stack(rows, axis=1)
    counts = []
    for strategy in STRATEGIES:
        first, second = (select(strategy, X, N_PICKS, seed=0).indices for X in (exact, narrow))
        counts.append(len(np.intersect1d(first, second)))
    print(f"| {name}, {len(rows)} studies | {' | '.join(map(str, counts))} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description="Compare ways to run the encoders on this processor.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only-times", action="store_true", help="leave out which picks are the same")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    files = sorted((DATA / "mednist" / "images").iterdir())
    print("| encoder | way | s to make ready | ms a view | to the first (median of rounds) | least cosine to it |")
    print("|---|---|---|---|---|---|")
    for name in ENCODERS:
        measure(name, files[:: len(files) // N_VIEWS][:N_VIEWS], options.threads, options.rounds)
    if options.only_times:
        return
    print(f"\n| same of {N_PICKS} picks | {' | '.join(STRATEGIES)} |\n|---|{'---|' * len(STRATEGIES)}")
    for name in SETS:
        same_picks(name)


if __name__ == "__main__":
    main()
