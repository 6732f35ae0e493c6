"""What a reader reads when a proxy answers wrongly, on every route: ``python wrong_answers.py table.md [route ...]``.

In the tests' environment; ``FIRSTPICK_PYTHON`` names a Python that has FirstPick installed. For each route of `ROUTES`
and each answer of `ANSWERS` the module does what asks that route, the real server behind a proxy that answers so. Then
the proxy answers rightly, and the same must work. Nothing drawn may be lost meanwhile, nothing may be said to be saved
or submitted that is not, no slot may fail, and nothing may be stuck.
"""

import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "host"), str(HERE.parent / "FirstPick")]

import qt
from proxy import WRONG
from trial import Trial, room

ANSWERS = [name for name in WRONG if name not in ("404", "circle")]
SAVED = "saved-alice-.*"
QUIET = (
    "strategies",
    "drafts",
    "thumbnail",
    "thumbnail of a series",
    "heartbeat",
)  # asked for again before anybody misses it


@dataclass
class Result:
    """What came of one wrong answer."""

    read: str = ""
    faults: list = field(default_factory=list)


@dataclass(frozen=True)
class Route:
    """A request of the module: what comes before it, what asks it, and what is true when it was answered."""

    method: str
    path: str
    before: object
    ask: object
    works: object
    more: tuple = ()  # rules of the proxy that it needs


def _nothing(_trial):
    """The window alone."""


ROUTES = {
    "status, connecting": Route("GET", "/firstpick/status", _nothing, Trial.connect, Trial.is_listed),
    "status, polled": Route("GET", "/firstpick/status", Trial.draw, lambda t: t.reader.refresh(), Trial.is_listed),
    "info of MONAI Label": Route(
        "GET", "/info/", _nothing, Trial.connect, Trial.is_listed, (("GET", "/firstpick/.*", "404"),)
    ),
    "strategies": Route(
        "GET", "/firstpick/strategies", _nothing, Trial.connect, lambda t: t.reader.ui.strategyBox.count > 1
    ),
    "proposal": Route("GET", "/firstpick/proposal.*", _nothing, Trial.connect, Trial.is_listed),
    "proposal, polled": Route(
        "GET", "/firstpick/proposal.*", Trial.draw, lambda t: t.reader.refresh(), Trial.is_listed
    ),
    "new proposal": Route(
        "POST", "/firstpick/proposal", Trial.connect, Trial.new_batch, lambda t: not t.reader.message
    ),
    "map": Route("GET", "/firstpick/map.*", _nothing, Trial.connect, Trial.is_listed),
    "drafts": Route("GET", "/firstpick/drafts", _nothing, Trial.connect, Trial.is_listed),
    "thumbnail": Route("GET", "/firstpick/thumbnail/.*", _nothing, Trial.connect, Trial.has_pictures),
    "thumbnail of a series": Route(
        "GET", r"/firstpick/thumbnail/.*series=.*", Trial.connect, Trial.open_several, Trial.has_series_pictures
    ),
    "reserve": Route("POST", "/firstpick/reserve", Trial.connect, Trial.open, Trial.is_open),
    "image info": Route("GET", "/datastore/image/info.*", Trial.connect, Trial.open, Trial.is_open),
    "image": Route("GET", r"/datastore/image\?.*", Trial.connect, Trial.open, Trial.is_open),
    "image info, submitting": Route(
        "GET",
        "/datastore/image/info.*",
        Trial.draw,
        lambda t: t.reader.press("submitButton"),
        lambda t: "Submitted" in t.reader.message and t.on_server("final"),
    ),
    "series": Route("GET", "/firstpick/series/.*", Trial.connect, Trial.open_several, Trial.has_series),
    "image of a series": Route("GET", "/firstpick/image/.*", Trial.connect, Trial.open_several, Trial.has_series),
    "labels": Route("GET", "/firstpick/labels/.*", Trial.save, Trial.open, Trial.is_drawn),
    "label": Route("GET", "/firstpick/label/.*", Trial.save, Trial.open, Trial.is_drawn),
    "heartbeat": Route("POST", "/firstpick/heartbeat", Trial.draw, Trial.beat, lambda t: not t.reader.reading.lost),
    "release": Route("POST", "/firstpick/release", Trial.connect, Trial.open_and_close, lambda t: t.status() == "open"),
    "skip": Route(
        "POST",
        "/firstpick/skip",
        Trial.draw,
        lambda t: t.skip() if t.is_open() else t.skip_at_first(),
        lambda t: t.status() == "skipped",
    ),
    "unskip": Route(
        "POST",
        "/firstpick/unskip",
        Trial.skip_at_first,
        lambda t: t.select_and_open() if t.status() == "skipped" else None,
        lambda t: t.status() == "open",
    ),
    "reopen": Route("POST", "/firstpick/reopen", Trial.submit, Trial.select_and_open, Trial.is_open),
    "save label, submitted": Route(
        "PUT",
        "/datastore/label.*tag=final",
        Trial.draw,
        lambda t: t.reader.press("submitButton"),
        lambda t: "Submitted" in t.reader.message and t.on_server("final"),
    ),
    "save label, saved work": Route(
        "PUT",
        f"/datastore/label.*tag={SAVED}",
        Trial.draw,
        lambda t: t.reader.press("saveButton"),
        lambda t: "Saved your work" in t.reader.message and t.on_server("saved-alice-*"),
    ),
    "save label, leaving": Route(
        "PUT", f"/datastore/label.*tag={SAVED}", Trial.draw, Trial.go_on, lambda t: t.on_server("saved-alice-*")
    ),
}


def attempt(server, proxy, name, answer, folder):
    """Have one route answered wrongly once, and then rightly: a `Result`."""
    route, errors = ROUTES[name], []
    trial, result = Trial(server, proxy, folder), Result()
    hook, sys.excepthook = sys.excepthook, lambda _kind, error, _trace: errors.append(error)

    def ask():
        route.ask(trial)
        trial.settle()

    step(result, "cannot begin", lambda: route.before(trial))
    proxy.set((route.method, route.path, answer), *route.more)
    step(result, "stuck", ask)
    told = " ".join(filter(None, [trial.reader.message, trial.told_of_series()]))
    result.read = f"{told} [{trial.reader.ui.serverLabel.text}]"
    if not proxy.n_wrong():
        result.faults.append("the proxy was not asked")
    if result.read == " [Ready: 6 studies embedded.]" and answer != "307" and name not in QUIET:
        result.faults.append("says nothing")
    step(result, "stuck", lambda: result.faults.extend(trial.faults()))
    proxy.set()
    trial.reader.logic.cancel()
    if not is_true(route.works, trial):
        step(result, "stuck afterwards", ask)
    if not is_true(route.works, trial):
        result.faults.append(f"stuck: then it says '{trial.reader.message}' [{trial.reader.ui.serverLabel.text}]")
    step(result, "stuck", lambda: result.faults.extend(f"then {fault}" for fault in trial.faults()))
    step(result, "cannot end", trial.end)
    sys.excepthook = hook
    result.faults += [f"{type(error).__name__} in a slot: {error}" for error in errors]
    return result


def is_true(question, trial):
    try:
        return question(trial)
    except Exception:
        return False


def step(result, fault, do):
    """Do something; what cannot be done is a fault."""
    try:
        do()
    except Exception as error:
        result.faults.append(f"{fault}: {type(error).__name__} {error}")


def main(target, *names):
    """Write the table, and how often each thing went wrong that must not."""
    lines, faults = ["| route | answer | what the reader reads [how the server is] | faults |", "|---|---|---|---|"], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        qt.QSettings.setDefaultFormat(qt.QSettings.IniFormat)
        qt.QSettings.setPath(qt.QSettings.IniFormat, qt.QSettings.UserScope, str(folder / "settings"))
        with room(folder) as (server, proxy):
            for name in names or ROUTES:
                for answer in ANSWERS:
                    result = attempt(server, proxy, name, answer, folder / f"{name} {answer}")
                    cells = name, answer, result.read.replace(proxy.address, "http://server"), "; ".join(result.faults)
                    lines.append(f"| {' | '.join(' '.join(cell.replace('|', '/').split()) for cell in cells)} |")
                    faults += result.faults
                    print(lines[-1], flush=True)
    counts = {word: sum(word in fault for fault in faults) for word in ("lost", "false", "stuck", "slot")}
    lines += ["", f"{len(lines) - 2} cells; " + ", ".join(f"{word}: {n}" for word, n in counts.items())]
    Path(target).write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(lines[-1])


if __name__ == "__main__":
    main(*sys.argv[1:])
