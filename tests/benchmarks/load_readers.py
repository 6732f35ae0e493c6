"""What readers ask of a server, timed: by wall clock at the client, by processor time of the server's process."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import requests

QUIET_MS = 2.0  # of processor time in a
QUIET_S = 0.04  # stretch as long as this: the server does nothing
QUIET_AT_MOST_S = 5.0


@dataclass
class Times:
    """Seconds of each request by its route, and refusals that a reader meets (a route and its status)."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    refused: Counter[str] = field(default_factory=Counter)

    def add(self, other: Times) -> None:
        for route, seconds in other.seconds.items():
            self.seconds[route] += seconds
        self.refused += other.refused


class Client:
    """One reader's connection to a server; the number tells readers what to end their first study with."""

    def __init__(self, port: int, name: str, label: bytes, number: int = 0) -> None:
        self.name, self.times, self.number, self._label = name, Times(), number, label
        self._url, self._session = f"http://127.0.0.1:{port}", requests.Session()

    def ask(self, route: str, method: str, path: str, **what: Any) -> requests.Response:
        """Send a request, and keep how long it took; what is refused counts apart."""
        start = time.perf_counter()
        answer = self._session.request(method, f"{self._url}{path}", timeout=120, **what)
        seconds = time.perf_counter() - start
        if answer.status_code < requests.codes.bad_request:
            self.times.seconds[route].append(seconds)
        elif answer.status_code in (requests.codes.conflict, requests.codes.unavailable):
            self.times.refused[f"{route} ({answer.status_code})"] += 1
        else:
            answer.raise_for_status()
        return answer

    def next_sample(self, strategy: str = "firstpick") -> str:
        """Return the id of the next sample; empty if nothing is open."""
        answer = self.ask("next sample", "POST", f"/activelearning/{strategy}", json={"client_id": self.name})
        return str(answer.json().get("id", "")) if answer.ok else ""

    def decide(self, route: str, study_id: str, **more: str) -> requests.Response:
        body = {"study_id": study_id, "client_id": self.name, **more}
        return self.ask(route, "POST", f"/firstpick/{route}", json=body)

    def get(self, route: str, path: str, **params: str) -> requests.Response:
        return self.ask(route, "GET", path, params=params)

    def thumbnail(self, study_id: str) -> requests.Response:
        return self.get("thumbnail", f"/firstpick/thumbnail/{quote(study_id)}")

    def image_info(self, study_id: str) -> requests.Response:
        return self.get("image info", "/datastore/image/info", image=study_id)

    def image(self, study_id: str) -> requests.Response:
        return self.get("image", "/datastore/image", image=study_id)

    def upload(self, study_id: str) -> requests.Response:
        where, params = {"image": study_id, "tag": "final"}, {"params": f'{{"client_id": "{self.name}"}}'}
        files = {"label": ("label.nii.gz", self._label)}
        return self.ask("upload a label", "PUT", "/datastore/label", params=where, data=params, files=files)


# -- readers, all at once


def read_firstpick(client: Client) -> Iterator[object]:
    """What FirstPick's Slicer module asks while a reader takes study after study; a step is a request."""
    yield client.get("info", "/info/")
    for turn in itertools.count(client.number):
        yield client.get("status", "/firstpick/status")
        yield client.get("proposal", "/firstpick/proposal")
        yield client.get("map", "/firstpick/map")
        study_id = client.next_sample()
        yield study_id
        if not study_id:
            continue
        yield client.thumbnail(study_id)
        yield client.decide("reserve", study_id)
        yield client.image_info(study_id)
        yield client.image(study_id)
        for _ in range(3):
            yield client.decide("heartbeat", study_id)
        match turn % 3:
            case 0:
                yield client.upload(study_id)
            case 1:
                yield client.decide("skip", study_id, reason="motion")
            case 2:
                yield client.decide("release", study_id)


def read_bare(client: Client) -> Iterator[object]:
    """What MONAI Label's own Slicer module asks."""
    for turn in itertools.count(client.number):
        yield client.get("info", "/info/")
        study_id = client.next_sample("random")
        yield study_id
        yield client.image_info(study_id)
        yield client.image(study_id)
        if turn % 3 == 0:
            yield client.upload(study_id)


def work(
    port: int,
    label: bytes,
    loop: Callable[[Client], Iterator[object]],
    *,
    n_readers: int,
    seconds: float,
    pause: float,
) -> Times:
    """Let readers work side by side, each with a pause after every request."""
    clients = [Client(port, f"reader {number:02d}", label, number) for number in range(n_readers)]
    end, failures = time.monotonic() + seconds, []

    def one(client: Client) -> None:
        rng = random.Random(client.name)
        try:
            for _ in loop(client):
                time.sleep(rng.expovariate(1 / pause) if pause else 0)
                if time.monotonic() > end:
                    return
        except requests.RequestException as error:
            failures.append(error)

    threads = [threading.Thread(target=one, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    times = Times()
    for client in clients:
        times.add(client.times)
    return times


# -- one route at a time


class Processor:
    """Processor time of a process, all its threads, user and system; not of its children."""

    def __init__(self, pid: int) -> None:
        self._clock = (~pid << 3) | 2  # Linux: the clock of another process; /proc counts in steps of 10 ms

    def ms(self) -> float:
        return time.clock_gettime(self._clock) * 1e3

    def wait_until_quiet(self) -> float:
        """Wait until nothing is done any more, and return the clock."""
        end, before = time.monotonic() + QUIET_AT_MOST_S, self.ms()
        while True:
            time.sleep(QUIET_S)
            now = self.ms()
            if now - before < QUIET_MS or time.monotonic() > end:
                return now
            before = now


@dataclass
class Cost:
    """Milliseconds of the server's processor: until the answer, and until nothing of it was left to do."""

    answered: list[float] = field(default_factory=list)
    quiet: list[float] = field(default_factory=list)


@contextmanager
def priced(processor: Processor, cost: Cost) -> Iterator[None]:
    """Note what a block costs the server."""
    before = processor.wait_until_quiet()
    yield
    cost.answered.append(processor.ms() - before)
    cost.quiet.append(processor.wait_until_quiet() - before)


def cost_of(client: Client, processor: Processor, ids: list[str], n_requests: int) -> dict[str, Cost]:
    """What each of FirstPick's routes costs, from one client that asks one after the other."""
    costs: dict[str, Cost] = defaultdict(Cost)
    reads = {
        "info": lambda _: client.get("info", "/info/"),
        "status": lambda _: client.get("status", "/firstpick/status"),
        "proposal": lambda _: client.get("proposal", "/firstpick/proposal"),
        "map": lambda _: client.get("map", "/firstpick/map"),
        "thumbnail": client.thumbnail,
        "image info": client.image_info,
        "image": client.image,
    }
    for number in range(n_requests):
        for route, ask in reads.items():
            with priced(processor, costs[route]):
                ask(ids[number])
        with priced(processor, costs["next sample"]):
            study_id = client.next_sample()
        for route in ("reserve", "heartbeat"):
            with priced(processor, costs[route]):
                client.decide(route, study_id)
        with priced(processor, costs["upload a label"]):
            client.upload(study_id)
        study_id = client.next_sample()
        with priced(processor, costs["release"]):
            client.decide("release", study_id)
        with priced(processor, costs["skip"]):
            client.decide("skip", study_id, reason="motion")
        client.decide("unskip", study_id)
    return costs


def cost_of_bare(client: Client, processor: Processor, n_requests: int) -> dict[str, Cost]:
    """What the routes of a bare MONAI Label app cost, in the same way."""
    costs: dict[str, Cost] = defaultdict(Cost)
    for _ in range(n_requests):
        with priced(processor, costs["info"]):
            client.get("info", "/info/")
        with priced(processor, costs["next sample"]):
            study_id = client.next_sample("random")
        with priced(processor, costs["image info"]):
            client.image_info(study_id)
        with priced(processor, costs["image"]):
            client.image(study_id)
        with priced(processor, costs["upload a label"]):
            client.upload(study_id)
    return costs
