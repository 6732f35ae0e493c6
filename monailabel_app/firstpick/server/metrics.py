"""What a Prometheus server asks for: how the work stands, in numbers without a name of anybody or of any study."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from firstpick.server.answers import ServerStatus


class Work(Collector):
    """Turns what the server says of itself into metrics, each time somebody asks.

    Parameters
    ----------
    status : callable
    state : Path
        The state folder.
    """

    def __init__(self, status: Callable[[], ServerStatus], state: Path) -> None:
        self._status = status
        self._state = state

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        now = self._status()
        about = {"version": now.version, "encoder": now.encoder, "strategy": now.strategy}
        yield InfoMetricFamily("firstpick", "What serves.", about)
        yield _gauge("firstpick_ready", "1 once a batch stands.", now.state == "ready")
        n_reserved = sum(len(reader.studies) for reader in now.readers)
        numbers = {
            "open": now.n_pool - now.n_labelled - now.n_skipped - n_reserved,
            "reserved": n_reserved,
            "done": now.n_labelled,
            "skipped": now.n_skipped,
            "failed": len(now.failed),
            "left_out": len(now.left_out),
        }
        studies = GaugeMetricFamily("firstpick_studies", "Studies by status.", labels=["status"])
        for status, number in numbers.items():
            studies.add_metric([status], number)
        yield studies
        yield _gauge("firstpick_studies_listed", "Studies in the folder that can be embedded.", now.progress.total)
        yield _gauge("firstpick_studies_embedded", "Of these, embedded.", now.progress.done)
        yield _gauge(
            "firstpick_readers_at_work", "Readers who hold a study.", sum(bool(r.studies) for r in now.readers)
        )
        yield _gauge("firstpick_labelling_seconds", "Time that all labels took.", sum(r.seconds for r in now.readers))
        yield _gauge("firstpick_unmatched_labels", "Label files that are no study's.", len(now.unmatched_labels))
        yield _gauge("firstpick_has_notice", "1 while the status tells of something amiss.", bool(now.notice))
        free = shutil.disk_usage(self._state).free
        yield _gauge("firstpick_state_free_bytes", "Free on the disk of the state.", free)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


class Metrics:
    """All metrics, as text in the format of Prometheus."""

    def __init__(self, status: Callable[[], ServerStatus], state: Path) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(Work(status, state))
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """Look at everything now."""
        return generate_latest(self._registry)
