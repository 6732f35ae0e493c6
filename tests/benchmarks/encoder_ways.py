"""One way to run an encoder's network on this processor, in a process of its own (part of `encoder_paths.py`).

``python encoder_ways.py prepare ENCODER FOLDER`` writes there what ways take: views, and an ONNX graph; ``narrow`` that
graph in int8.
``python encoder_ways.py WAY ENCODER FOLDER`` gets ready on one thread, says what that took, and answers orders, a line
of JSON for each: ``time N_THREADS`` and ``rows FILE``.
"""
# ruff: noqa: T201  a script prints

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SETS = {"nerve_us": 40, "polyp_kvasir": 40, "mednist": 40}
N_VIEWS = 24
CALIBRATION, N_CALIBRATION = ("hippocampus", "nerve_us", "polyp_kvasir", "mednist"), 4


# -- ways: each makes a function of views (n, 3, side, side) that gives what the network gives, all as arrays


def in_torch(name, n_threads, change=lambda network: network, **autocast):
    import torch

    torch.set_num_threads(n_threads)
    network = change(torch_network(name))

    @torch.inference_mode()
    def run(views):
        with torch.autocast("cpu", torch.bfloat16, **{"enabled": False} | autocast):
            return network(torch.from_numpy(views)).float().numpy()

    return run


def compiled(network):
    import torch

    torch.compiler.reset()  # the number of threads is built in
    return torch.compile(network)


def rows_first(network):
    import torch

    return network.to(memory_format=torch.contiguous_format)


def in_onnxruntime(path, n_threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    made = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda views: made.run(None, {"views": views})[0]


def in_openvino(path, n_threads, kind):
    import openvino  # no part of FirstPick: pip install openvino

    settings = {"INFERENCE_NUM_THREADS": n_threads, "INFERENCE_PRECISION_HINT": kind}
    made = openvino.Core().compile_model(path, "CPU", settings)
    return lambda views: made(views)[0].copy()


WAYS = {
    "torch, float32": lambda name, folder, n: in_torch(name, n),
    "torch, channels first": lambda name, folder, n: in_torch(name, n, rows_first),
    "torch, bfloat16": lambda name, folder, n: in_torch(name, n, enabled=True),
    "torch.compile": lambda name, folder, n: in_torch(name, n, compiled),
    "ONNX Runtime, float32": lambda name, folder, n: in_onnxruntime(folder / "network.onnx", n),
    "ONNX Runtime, int8": lambda name, folder, n: in_onnxruntime(folder / "int8.onnx", n),
    "OpenVINO, float32": lambda name, folder, n: in_openvino(folder / "network.onnx", n, "f32"),
    "OpenVINO, bfloat16": lambda name, folder, n: in_openvino(folder / "network.onnx", n, "bf16"),
}


def torch_network(name):
    """The encoder's network in torch, whatever FirstPick runs."""
    import torch

    from firstpick.encoders import EncoderSpec, efficientnet, encoder_row, vit
    from firstpick.encoders.weights import weights_files

    if name == "efficientnet-lite0":
        network = efficientnet.features(EncoderSpec(name).resolved())
    else:
        network = vit.trained(*weights_files(name, encoder_row(name)), n_blocks=int(encoder_row(name).layer))
    return network.eval().to(memory_format=torch.channels_last)


def serve(way, name, folder):
    """Get ready, and answer orders."""
    size = json.loads((folder / "facts.json").read_text())["batch"]
    views = np.load(folder / "views.npy")
    run = made_ready(way, name, folder, 1, views[:size])
    print(json.dumps({"ready_s": time.process_time(), "peak_mb": peak_mb()}), flush=True)
    runs = {1: run}
    for line in sys.stdin:
        order, argument = line.split()
        if order == "time":
            n_threads = int(argument)
            if n_threads not in runs:
                runs[n_threads] = made_ready(way, name, folder, n_threads, views[:size])
            wall, start = time.perf_counter(), time.process_time()
            rows = encoded(runs[n_threads], views, size)
            seconds = time.process_time() - start, time.perf_counter() - wall
            print(json.dumps([some / len(rows) * 1000 for some in seconds]), flush=True)
        else:
            np.save(folder / argument, encoded(runs[1], np.load(folder / "sets.npy"), size))
            print("{}", flush=True)


def made_ready(way, name, folder, n_threads, batch):
    """A function of views; what compiles does so twice, as the network keeps its position grid for the second call."""
    run = WAYS[way](name, folder, n_threads)
    run(batch)
    run(batch)
    return run


def encoded(run, views, size):
    """One row for each view, (n, dim); batches are full, as some graphs ask for."""
    full = np.concatenate([views, np.repeat(views[-1:], -len(views) % size, axis=0)])
    return np.concatenate([pooled(run(batch)) for batch in full.reshape(-1, size, *full.shape[1:])])[: len(views)]


def pooled(output):
    """Average the patches' tokens, or the places of a map."""
    return output[:, 1:].mean(axis=1) if output.ndim == 3 else output.mean(axis=(2, 3))


def peak_mb():
    """The most memory that this process held; Linux tells it apart from that of the process that started it."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**10


# -- what all ways take


def prepare(name, folder):
    """Write views, whose they are, and the graph; note the seconds of the processor that the graph took."""
    from firstpick.encoders import EncoderSpec, build_encoder
    from firstpick.voxels.volumes import read_volume

    encoder = build_encoder(EncoderSpec(name))
    mednist = sorted((DATA / "mednist" / "images").iterdir())
    files = {"views": mednist[:: len(mednist) // N_VIEWS][:N_VIEWS]}
    files["sets"] = [file for kind, n in SETS.items() for file in sorted((DATA / kind / "images").iterdir())[:n]]
    files["calibration"] = [
        file for kind in CALIBRATION for file in sorted((DATA / kind / "images").iterdir())[:N_CALIBRATION]
    ]
    for kind, some in files.items():
        parts = [encoder.parts(read_volume(file)) for file in some]
        np.save(folder / f"{kind}.npy", np.ascontiguousarray(encoder.prepare(np.concatenate(parts))))
        np.save(folder / f"{kind}_counts.npy", [len(part) for part in parts])
    start = time.process_time()
    export(name, folder, encoder._batch)
    facts = {"batch": encoder._batch, "graph_s": time.process_time() - start}
    (folder / "facts.json").write_text(json.dumps(facts))


def export(name, folder, size):
    """Write the network as a graph."""
    import torch

    example = torch.from_numpy(np.load(folder / "views.npy")[:size])
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # of a tracer: for pictures of this size alone
        torch.onnx.export(
            torch_network(name),
            (example,),
            folder / "network.onnx",
            input_names=["views"],
            dynamic_axes={"views": {0: "n"}},
            dynamo=False,
        )


def narrow(name, folder):
    """Write the graph in int8, calibrated on views of four kinds."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    size = json.loads((folder / "facts.json").read_text())["batch"]

    class Views(CalibrationDataReader):
        def __init__(self):
            views = np.load(folder / "calibration.npy")
            self._batches = iter(views[: len(views) // size * size].reshape(-1, size, *views.shape[1:]))

        def get_next(self):
            batch = next(self._batches, None)
            return None if batch is None else {"views": batch}

    quant_pre_process(folder / "network.onnx", folder / "shapes.onnx", skip_symbolic_shape=True)  # any number of views
    quantize_static(folder / "shapes.onnx", folder / "int8.onnx", Views(), per_channel=True)


if __name__ == "__main__":
    what, encoder_name, where = sys.argv[1:]
    if what in {"prepare", "narrow"}:
        {"prepare": prepare, "narrow": narrow}[what](encoder_name, Path(where))
    else:
        serve(what, encoder_name, Path(where))
