"""How an encoder runs fastest on this processor, and how far its rows are then from those of float32, as a table.

Run by hand: ``python tests/benchmarks/encoder_paths.py``. Views of pictures of MedNIST, all six classes; the ways take
turns, so that a busy machine slows all of them alike. Seconds are those of the processor, on ``--threads`` threads.
What is made ready once (a graph, a compilation) is not counted in a view. Then how many of twenty picks are the same on
rows of bfloat16, for the default encoder on three sets of data.
"""
# ruff: noqa: T201  a script prints

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from firstpick.encoders import EncoderSpec, build_encoder
from firstpick.selection import select
from firstpick.voxels.volumes import read_volume

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
ENCODERS = ("dinov2-s", "efficientnet-lite0")
SETS = ("hippocampus", "nerve_us", "polyp_kvasir")
STRATEGIES = ("kmeans", "typiclust", "ward", "facility_location", "kcenter")
N_VIEWS = 24
N_STUDIES, N_PICKS = 300, 20
N_ROUNDS = 9


def ways_of(encoder, batch, folder, n_threads):
    """Return by name functions that turn what the network sees of a few views into what it gives."""
    network = encoder._network
    path, options = folder / "network.onnx", onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a tracer: for this number of views alone
        torch.onnx.export(network, (batch,), path, input_names=["views"], dynamo=False)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    compiled = torch.compile(network)

    def in_bfloat16(views):
        with torch.autocast("cpu", torch.bfloat16):
            return network(views).float()

    return {
        "torch, float32": network,
        "torch, bfloat16": in_bfloat16,
        "torch.compile, float32": compiled,
        "ONNX Runtime, float32": lambda views: torch.from_numpy(session.run(None, {"views": views.numpy()})[0]),
    }


@torch.inference_mode()
def measure(name, files, n_threads):
    """Print a line for each way."""
    encoder = build_encoder(EncoderSpec(name))
    views = encoder.prepare(np.concatenate([encoder.parts(read_volume(file)) for file in files])).contiguous()
    size = encoder._batch
    batches = views[: len(views) // size * size].split(size)
    with tempfile.TemporaryDirectory() as folder:
        ways = ways_of(encoder, batches[0], Path(folder), n_threads)
        rows, seconds = {}, {way: [] for way in ways}
        for at in range(N_ROUNDS + 1):  # the first one makes ready
            for way, run in ways.items():
                start = time.process_time()
                found = [encoder._pool(run(batch)) for batch in batches]
                if at:
                    seconds[way].append((time.process_time() - start) / len(views) * 1000)
                rows[way] = torch.cat(found)
    first = next(iter(ways))
    for way in ways:
        ratio = np.median(np.divide(seconds[way], seconds[first]))
        cosine = torch.nn.functional.cosine_similarity(rows[way], rows[first]).min()
        print(f"| {name} | {way} | {np.median(seconds[way]):.1f} | {ratio:.2f} | {cosine:.5f} |", flush=True)


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
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    files = sorted((DATA / "mednist" / "images").iterdir())
    print("| encoder | way | ms a view | to the first (median of rounds) | least cosine to it |\n|---|---|---|---|---|")
    for name in ENCODERS:
        measure(name, files[:: len(files) // N_VIEWS][:N_VIEWS], options.threads)
    print(f"\n| same of {N_PICKS} picks | {' | '.join(STRATEGIES)} |\n|---|{'---|' * len(STRATEGIES)}")
    for name in SETS:
        same_picks(name)


if __name__ == "__main__":
    main()
