"""Worker processes: what dies or hangs takes only its own task down, and nothing outlives its parent."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from concurrent import futures
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from firstpick.workers import LocalPool, MemoryLimitError, NotReadyError, ProcessExpired, why_failed


def end_by(how):
    """What a file may do to the process that reads it."""
    if how == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(60)


def take_memory(n_bytes, *, touch):
    """Ask for memory, and use it or not."""
    taken = np.ones(n_bytes, np.uint8) if touch else np.empty(n_bytes, np.uint8)
    time.sleep(2)
    return len(taken)


_ready = []


def get_ready(seconds, what="well"):
    time.sleep(seconds)
    if what == "fails":
        msg = "no such thing"
        raise LookupError(msg)
    if what == "dies":
        os._exit(7)
    _ready.append(what)


def how_often_ready():
    return len(_ready), os.getpid()


def raise_what_cannot_be_pickled():
    class Local(Exception):  # noqa: N818
        pass

    msg = "deep"
    raise Local(msg)


@pytest.mark.parametrize(("how", "error"), [("crash", ProcessExpired), ("hang", futures.TimeoutError)])
def test_a_worker_that_crashes_or_hangs_ends_only_its_task(how, error):
    with LocalPool(n_workers=1, time_limit_s=3) as pool:
        ended, next_one = pool.submit(end_by, how), pool.submit(len, "abc")
        assert type(ended.exception()) is error
        assert next_one.result() == 3


def test_a_worker_that_takes_too_much_memory_ends_only_its_task():
    with LocalPool(n_workers=1, memory_gb=0.5) as pool:
        asked = partial(take_memory, touch=False)
        taken = partial(take_memory, touch=True)
        assert pool.submit(asked, 10**9).result() == 10**9  # torch asks for far more than it uses
        assert pool.alike(n_workers=1).memory_gb == 0.5
        error = pool.submit(taken, 10**9).exception()
        assert type(error) is MemoryLimitError
        said = "Reading it took more than 0.5 GB of memory, which is all that a worker may have. Raise worker_memory_gb"
        assert why_failed(error, "Reading it").startswith(said)
        assert pool.submit(taken, 10**7).result() == 10**7


def test_a_worker_may_have_half_of_the_memory_where_nothing_is_said():
    with LocalPool(n_workers=1) as pool:
        assert 0 < pool.memory_gb * 1e9 <= psutil.virtual_memory().total / 2


def test_each_process_is_prepared_before_its_first_task():
    with LocalPool(n_workers=1, prepare=(get_ready, 0, "well")) as pool:
        assert pool.submit(how_often_ready).result()[0] == 1
        pool.submit(end_by, "crash").exception()
        assert pool.submit(how_often_ready).result()[0] == 1


def test_a_pool_that_is_alike_is_prepared_like_the_first_and_in_its_own_way():
    with (
        LocalPool(n_workers=1, prepare=(get_ready, 0, "well")) as pool,
        pool.alike(n_workers=1) as plain,
        pool.alike(n_workers=1, prepare=(get_ready, 0, "better")) as other,
    ):
        assert plain.submit(how_often_ready).result()[0] == 1
        assert other.submit(how_often_ready).result()[0] == 2


def test_what_comes_first_is_done_once_in_each_worker_and_again_after_its_death():
    with LocalPool(n_workers=1, time_limit_s=2) as pool:
        first = (get_ready, 0)
        results = [pool.submit_after(first, how_often_ready).result() for _ in range(2)]
        assert results[0] == results[1] == (1, results[0][1])
        pool.submit(end_by, "crash").exception()
        assert pool.submit_after(first, how_often_ready).result()[0] == 1
        assert pool.submit_after((get_ready, 0.0, "other"), how_often_ready).result()[0] == 2


def test_what_comes_first_has_a_clock_of_its_own():
    with LocalPool(n_workers=1, time_limit_s=1.5, start_limit_s=30) as pool:
        assert pool.submit_after((get_ready, 2), how_often_ready).result()[0] == 1
    with LocalPool(n_workers=1, start_limit_s=1.5) as pool:
        error = pool.submit_after((get_ready, 60), how_often_ready).exception()
        assert type(error) is NotReadyError
        assert type(error.__cause__) is futures.TimeoutError


@pytest.mark.parametrize(("what", "cause"), [("fails", LookupError), ("dies", ProcessExpired)])
def test_where_what_comes_first_fails_the_task_is_not_begun(what, cause):
    with LocalPool(n_workers=1) as pool:
        error = pool.submit_after((get_ready, 0, what), how_often_ready).exception()
        assert type(error) is NotReadyError
        assert type(error.__cause__) is cause


def test_errors_and_results_that_cannot_be_sent_are_said():
    with LocalPool(n_workers=1) as pool:
        assert "Local: deep" in str(pool.submit(raise_what_cannot_be_pickled).exception())
        assert "cannot be sent" in str(pool.submit(open, os.devnull).exception())
        error = pool.submit(int, "x").exception()
        assert type(error) is ValueError
        assert "Traceback" in str(error.__cause__)


def test_there_are_no_more_processes_than_tasks_and_none_after_the_end():
    with LocalPool(n_workers=8) as pool:
        workers = {pool.submit(os.getpid).result() for _ in range(3)}
        assert len(workers) == 1
        waiting = [pool.submit(end_by, "hang") for _ in range(12)]
        start = time.monotonic()
    assert time.monotonic() - start < 5
    assert all(future.done() for future in waiting)
    assert not any(is_running(process) for process in workers)
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit(len, "abc")


def be_busy(folder, how):
    """Say that it begins, and do not listen."""
    Path(folder, str(os.getpid())).touch()
    if how == "native":
        ctypes.CDLL(None).sleep(60)
    if how == "python":
        while True:
            sum(range(10**6))
    if how == "import":
        import torch._dynamo
        import torch._inductor  # noqa: F401
    time.sleep(60)


PARENT = """
import signal
import sys
from firstpick.workers import LocalPool
from test_workers import be_busy

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # pytest-xdist has its children ignore it
    with LocalPool(n_workers=2) as pool:
        calls = [pool.submit_after((be_busy, *sys.argv[1:]), len, "abc") for _ in range(2)]
        print(calls[0].result())
"""


@pytest.mark.parametrize(
    ("how", "end"),
    [
        ("native", signal.SIGTERM),
        ("native", signal.SIGINT),
        ("native", signal.SIGKILL),
        ("python", signal.SIGKILL),
        ("import", signal.SIGKILL),
        ("spawning", signal.SIGTERM),
        ("spawning", signal.SIGINT),
        ("spawning", signal.SIGKILL),
    ],
)
def test_workers_go_within_five_seconds_of_a_parent_that_was_told_to_end(tmp_path, how, end):
    """Real processes, busy in native code, in Python, with importing, or still starting."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    begun = tmp_path / "begun"
    begun.mkdir()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])}
    parent = subprocess.Popen(
        [sys.executable, script, begun, how], env=environment, stderr=subprocess.PIPE, start_new_session=True, text=True
    )
    try:
        deadline = time.monotonic() + 60
        workers = []
        while len(workers) < 2 or (how != "spawning" and len(list(begun.iterdir())) < 2):
            assert time.monotonic() < deadline, "the workers did not begin"
            children = psutil.Process(parent.pid).children()
            workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
            time.sleep(0.02)
        if end == signal.SIGINT:
            os.killpg(parent.pid, end)  # as a terminal does
        else:
            parent.send_signal(end)
        _, left = psutil.wait_procs(workers, timeout=5)
        assert not left
        said = parent.communicate(timeout=10)[1]
        assert end != signal.SIGINT or "spawn_main" not in said
    finally:
        parent.kill()
        for worker in workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()


def is_running(process):
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
