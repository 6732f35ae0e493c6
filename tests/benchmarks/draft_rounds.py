"""A round with drafts on the real server: how soon they come after a label, how good they are, what the worker takes.

``python tests/benchmarks/draft_rounds.py STUDIES MASKS --labels NAME=VALUE ...`` plays the reader with masks that are
there: it labels the batch in its order, and after 5, 10 and 20 labels waits for the drafts of the next five picks. Each
study is labelled as soon as its mask can be sent, so the drafts that a reader corrects are compared, too. ``--pictures
FILE`` draws three drafts of each stage beside the masks, and the corrections' curve. Ends with a Markdown table.
"""
# ruff: noqa: T201  a script prints

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import matplotlib.pyplot as plt
import numpy as np
import psutil
import SimpleITK as sitk  # noqa: N813
from server_process import Server, wait_for

STAGES = (5, 10, 20)
N_SHOWN = 3
PATIENCE_S = 1200.0


def main() -> None:
    parser = argparse.ArgumentParser(description="A round with drafts, as a Markdown table.")
    parser.add_argument("studies", type=Path)
    parser.add_argument("masks", type=Path)
    parser.add_argument("--labels", nargs="+", required=True, metavar="NAME=VALUE")
    parser.add_argument("--stages", nargs="+", type=int, default=STAGES)
    parser.add_argument("--encoder", default="dinov2-s")
    parser.add_argument("--pictures", type=Path)
    options = parser.parse_args()
    values = {name: int(value) for name, _, value in (text.partition("=") for text in options.labels)}
    shown: list[tuple[int, Any, Any, Any, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder, "state")
        labels = "[" + ", ".join(f"{{name: {name}, value: {value}}}" for name, value in values.items()) + "]"
        pairs = ("labels", labels, "drafts.enabled", "true", "batch_size", str(max(options.stages) + 5))
        pairs += ("encoder", options.encoder, "n_workers", "2", "views.size", "0", "drafts.min_dice", "0")
        with Server(options.studies, state, *pairs) as server:
            wait_for(server.answers, what="the server")
            wait_for(lambda: server.status()["state"] == "ready", PATIENCE_S, "the embeddings")
            play(server, options, values, shown)
            corrections = server.get("/firstpick/drafts")["corrections"]
    if options.pictures:
        draw(options.pictures, shown, corrections)


def play(server: Server, options: argparse.Namespace, values: dict[str, int], shown: list[Any]) -> None:
    """Label pick after pick; print a row at each stage."""
    picks = [pick["study_id"] for pick in server.get("/firstpick/proposal")["picks"]]
    print("| labels | held-out Dice | drafts' Dice | first draft after (s) | five after (s) | worker (GB) |")
    print("|---|---|---|---|---|---|")
    watch = Watch(server)
    for number, study_id in enumerate(picks, start=1):
        mask = mask_of(options.masks, study_id)
        if number > 1 and number - 1 not in options.stages:  # so that each had its draft before
            wait_for(lambda n=number - 1: is_settled(server, n), PATIENCE_S, "the drafts")
        start = time.monotonic()
        server.upload(study_id, "reader", content=mask.read_bytes(), name=mask.name)
        if number not in options.stages:
            continue
        first = wait_for(lambda n=number: fresh(server, n), PATIENCE_S, "a draft")
        first_s = time.monotonic() - start
        said = wait_for(lambda n=number: is_settled(server, n), PATIENCE_S, "all drafts")
        all_s = time.monotonic() - start
        dices = []
        for one in said["drafts"][:5]:
            content = server.ask("GET", f"/firstpick/draft/{one['study_id']}").content
            dices.append(compared(server, one["study_id"], content, options, values, shown, number))
        row = f"| {number} | {said['dice']:.3f} | {np.mean(dices):.3f} | {first_s:.1f} | {all_s:.1f} |"
        print(row, f"{watch.peak / 1e9:.2f} |", flush=True)
        assert first
        if number == max(options.stages):
            break
    wait_for(lambda: is_settled(server, number), PATIENCE_S, "the drafts")


class Watch(threading.Thread):
    """The most memory that a process of the server had, the server itself apart."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self.peak, self._parent = 0, psutil.Process(server.process.pid)
        self.start()

    def run(self) -> None:
        while self._parent.is_running():
            with contextlib.suppress(psutil.Error):  # it ended meanwhile
                taken = [child.memory_info().rss for child in self._parent.children(recursive=True)]
                self.peak = max([self.peak, *taken])
            time.sleep(0.2)


def fresh(server: Server, n_labels: int) -> bool:
    return any(one["n_labels"] == n_labels for one in server.get("/firstpick/drafts")["drafts"])


def is_settled(server: Server, n_labels: int) -> dict[str, Any] | None:
    said: dict[str, Any] = server.get("/firstpick/drafts")
    waits = n_labels < 2 and said["state"] == "waiting"
    return said if waits or (said["state"] in ("ready", "below") and said["n_labels"] == n_labels) else None


def mask_of(folder: Path, study_id: str) -> Path:
    name = Path(study_id).name.split(".")[0]
    return next(path for path in folder.iterdir() if path.name.split(".")[0] == name)


def voxels(path: Path) -> Any:
    """Return the voxels of a file, slices first; a picture is one slice."""
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    return array[None] if array.ndim == 2 else array


def compared(
    server: Server,
    study_id: str,
    content: bytes,
    options: argparse.Namespace,
    values: dict[str, int],
    shown: list[Any],
    stage: int,
) -> float:
    """Return a draft's Dice; keep some to be drawn."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "draft.nii.gz")
        path.write_bytes(content)
        draft, truth = voxels(path), voxels(mask_of(options.masks, study_id))
    scores = []
    for value in values.values():
        a, b = draft == value, truth == value
        if a.any() or b.any():
            scores.append(2 * (a & b).sum() / (a.sum() + b.sum()))
    dice = float(np.mean(scores))
    if sum(one[0] == stage for one in shown) < N_SHOWN:
        image = voxels(options.studies / study_id)
        at = int((truth > 0).sum(axis=(1, 2)).argmax())
        shown.append((stage, image[at], draft[at], truth[at], dice))
    return dice


def draw(path: Path, shown: list[Any], corrections: list[dict[str, Any]]) -> None:
    """Draw drafts beside the masks, and how drafts and final labels agreed."""
    stages = sorted({one[0] for one in shown})
    figure, axes = plt.subplots(len(stages) + 1, 2 * N_SHOWN, figsize=(12, 2.4 * (len(stages) + 1)))
    for row, stage in zip(axes, stages, strict=False):
        for place, (_, image, draft, truth, dice) in enumerate([one for one in shown if one[0] == stage]):
            for axis, mask, title in (
                (row[2 * place], draft, f"{stage} labels: draft, Dice {dice:.2f}"),
                (row[2 * place + 1], truth, "the mask"),
            ):
                axis.imshow(image, cmap="gray")
                axis.imshow(np.ma.masked_equal(mask, 0), cmap="autumn", alpha=0.5, vmin=0)
                axis.set_title(title, fontsize=8)
    for axis in axes.ravel():
        axis.axis("off")
    for axis in axes[-1]:
        axis.remove()
    curve = figure.add_subplot(len(stages) + 1, 1, len(stages) + 1)
    curve.plot([one["dice"] for one in corrections], "o-")
    curve.set(ylim=(0, 1), xlabel="final labels that had a draft, in their order", ylabel="Dice of draft and label")
    figure.tight_layout()
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main()
