"""A real server over ten and a hundred thousand studies: its start, its answers, and the page in Chromium.

Run by hand: ``python tests/benchmarks/scale_server.py`` (about fifteen minutes on two cores; ``--sizes 10000`` makes it
shorter, ``--bare 0`` leaves MONAI Label out, ``--no-page`` the browser). Studies are tiny pictures, all embedded before
with made-up numbers (`scale_archive.py`). Each server is started twice: with no batch yet, and with one that stands.
Answers are the median of five, at a client on the same machine. Then a bare MONAI Label app with its strategy `random`
over as many pictures as ``--bare`` says (10,000), in one folder, as it wants them.
"""
# ruff: noqa: T201  a script prints

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import psutil
import requests
from load_servers import bare_server
from scale_archive import CONFIGURED, make_archive, write_pictures
from server_process import Server

N_ANSWERS = 5
PATIENCE_S = 900.0


def main() -> None:
    parser = argparse.ArgumentParser(description="Start, answers and page at scale, as Markdown tables.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--bare", type=int, default=10_000, help="pictures for a bare MONAI Label app (default 10,000)")
    parser.add_argument("--no-page", action="store_true", help="open no browser")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
    print("\n| studies | what | measured |\n|---|---|---|")
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as temporary:
            studies, state = make_archive(Path(temporary), size)
            for when in ("first start", "again"):
                for what, measured in measures(studies, state, has_page=not options.no_page and when == "again"):
                    print(f"| {size:,} | {when}: {what} | {measured} |", flush=True)
    if options.bare:
        with tempfile.TemporaryDirectory() as temporary:
            for what, measured in bare(Path(temporary), options.bare):
                print(f"| {options.bare:,} | bare MONAI Label: {what} | {measured} |", flush=True)


def measures(studies: Path, state: Path, *, has_page: bool) -> Iterator[tuple[str, str]]:
    """Start a server; yield what is measured of it."""
    start = time.perf_counter()
    with Server(studies, state, *CONFIGURED) as server:
        base = f"http://127.0.0.1:{server.port}"
        yield "seconds to the first `/info/`", f"{waited(lambda: asked(base, 'GET', '/info/'), start):.1f}"
        waited(lambda: asked(base, "GET", "/firstpick/proposal"), start)
        yield "to the batch", f"{time.perf_counter() - start:.1f}"
        waited(lambda: server.status()["state"] == "ready", start)
        yield "until no reader need wait", f"{time.perf_counter() - start:.1f}"
        for what, method, path in (
            ("`/info/`", "GET", "/info/"),
            ("status", "GET", "/firstpick/status"),
            ("next sample", "POST", "/activelearning/firstpick"),
            ("map", "GET", "/firstpick/map"),
            ("all of the datastore", "GET", "/datastore/?output=all"),
        ):
            yield f"{what}, ms", answers(base, method, path)
        if has_page:
            yield "page open until the map is drawn, s", f"{page_seconds(base):.1f}"
        process = psutil.Process(server.process.pid)
        yield "memory, MB", f"{process.memory_info().rss / 1e6:,.0f}"


def bare(folder: Path, size: int) -> Iterator[tuple[str, str]]:
    """Start MONAI Label's own app; yield what is measured of it."""
    studies = write_pictures(folder / "all", size)
    flat = folder / "flat"
    flat.mkdir()
    for path in studies.rglob("*.png"):
        path.rename(flat / path.name)
    start = time.perf_counter()
    with bare_server(flat, folder / "bare") as server:
        yield "seconds to the first `/info/`", f"{time.perf_counter() - start:.1f}"
        base = f"http://127.0.0.1:{server.port}"
        yield "`/info/`, ms", answers(base, "GET", "/info/")
        yield "next sample, ms", answers(base, "POST", "/activelearning/random")


def asked(base: str, method: str, path: str) -> requests.Response | None:
    """Return a good answer, or None."""
    try:
        body = {"json": {"client_id": "reader"}} if method == "POST" else {}
        answer = requests.request(method, base + path, timeout=PATIENCE_S, **body)
    except requests.ConnectionError:
        return None
    return answer if answer.ok else None


def waited(is_so: Callable[[], Any], start: float) -> float:
    """Ask until it is so; return the seconds since the start."""
    while not is_so():
        if time.perf_counter() - start > PATIENCE_S:
            sys.exit("The server takes too long.")
        time.sleep(0.1)
    return time.perf_counter() - start


def answers(base: str, method: str, path: str) -> str:
    """Median milliseconds and size of a few answers, as they are sent."""
    taken = []
    for _ in range(N_ANSWERS):
        start = time.perf_counter()
        answer = asked(base, method, path)
        taken.append(1000 * (time.perf_counter() - start))
    if answer is None:
        return "refused"
    n_sent = int(answer.headers.get("content-length", len(answer.content)))
    return f"{statistics.median(taken):.0f} ({n_sent / 1e6:.2f} MB)"


def page_seconds(base: str) -> float:
    """Open the page in a browser, and wait for its map."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        tab = browser.new_page()
        start = time.perf_counter()
        tab.goto(f"{base}/firstpick/", timeout=1000 * PATIENCE_S)
        tab.wait_for_selector("#map > canvas, #map .scatterlayer .point", state="attached", timeout=1000 * PATIENCE_S)
        seconds = time.perf_counter() - start
        browser.close()
        return seconds


if __name__ == "__main__":
    main()
