"""How long the work list and the map take: ``python speed.py [STUDIES]`` in the tests' environment.

500 picks and 10,000 studies, if nothing is said; the median of seven, in this stand-in for Slicer. Large studies:
``speed_large.py``.
"""

import statistics
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "host"), str(HERE.parent / "FirstPick")]

import numpy as np
import slicer
from stage import Reader

from FirstPickLib.worklist import WorkList

N_PICKS, N_STUDIES = 500, int(sys.argv[1]) if __name__ == "__main__" and sys.argv[1:] else 10_000


def answers(nDone=0):
    """A proposal and a map as the server gives them."""
    rng = np.random.default_rng(0)
    picks = [
        {
            "rank": rank + 1,
            "study_id": f"patient_{rank * 20:05d}/series",
            "title": f"Patient {rank * 20}",
            "share": 20 / N_STUDIES,
            "stands_for": 20,
            "lookalikes": [f"patient_{rank * 20 + i:05d}/series" for i in range(1, 6)],
            "reason": "Stands for 20 of the 10000 unlabelled studies.",
            "replaces": "",
            "status": "done" if rank < nDone else "open",
            "client": "bob" if rank < nDone else "",
            "until": 0.0,
        }
        for rank in range(N_PICKS)
    ]
    points = [
        {
            "study_id": f"patient_{i:05d}/series",
            "title": f"Patient {i}",
            "x": float(x),
            "y": float(y),
            "status": "open",
            "client": "",
            "reason": "",
            "rank": None,
            "stands_with": f"patient_{i // 20 * 20:05d}/series",
        }
        for i, (x, y) in enumerate(rng.normal(size=(N_STUDIES, 2)))
    ]
    proposal = {"strategy": "kmeans", "n_pool": N_STUDIES, "coverage": [0.5], "note": "", "picks": picks}
    return proposal, points


def measure(name, function, setUp=lambda: None):
    """Print the median."""
    times = []
    for _ in range(7):
        setUp()
        slicer.app.processEvents()
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    print(f"{name:60} {statistics.median(times) * 1000:7.1f} ms")


def main():
    reader = Reader()
    widget, logic = reader.widget, reader.logic
    logic.loadThumbnail = lambda studyId, done: None  # no server here
    first, later = answers(), answers(nDone=1)

    def give(proposal, points):
        logic.worklist = WorkList(proposal, points, "alice")
        widget._updateWorkList()
        widget.map._draw()

    def empty():
        logic.worklist = None
        widget._updateWorkList()

    measure(f"fill list (500) and map ({N_STUDIES:,})", lambda: give(*first), empty)
    measure("a status changes: list and map brought up to date", lambda: give(*later), lambda: give(*first))
    place = widget.map._pixels[5000]
    x, y = int(place[0]), int(place[1])
    measure("click in the map: select in the list", lambda: widget.onMapClicked(widget.map.studyAt(x, y)))
    measure(
        "click in the list: ring in the map, painted",
        lambda: (widget.table.select(first[0]["picks"][400]["study_id"]), widget.map.repaint()),
    )
    measure("filter and back", lambda: (widget.table.fill("done", ""), widget.table.fill("all", "")))
    reader.close()


if __name__ == "__main__":
    main()
