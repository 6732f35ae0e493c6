"""What every command prints and how it ends, for good and bad input, as recorded in ``golden/``.

Recorded anew with ``FIRSTPICK_GOLDEN=write``, never else.
"""

import importlib.util
import os
import re
import shlex
import subprocess
import sys

import pytest
from golden_files import ROOT, compare, plain, run, write_volumes

FAST = "--state state --encoder pixels --conf views.size 32 --conf n_workers 1"
ON = f"--studies studies {FAST}"
COMPARE = f"compare studies --labels classes.csv {FAST.replace('--encoder pixels', '--conf encoder pixels')}"
ARMS = "--encoders pixels --judges random-init --strategies kcenter,typiclust --budgets 2,4 --seeds 3 --random-draws 3"
ARMS += " --conf views.planes [axial] --conf views.per_plane 1"

GOOD = {
    "embed": f"embed {ON}",
    "pick": f"pick {ON} --batch-size 3",
    "pick as json": f"pick {ON} --batch-size 3 --seed 1 --json",
    "pick with advice": f"pick {ON} --batch-size 3 --strategy kcenter --advice",
    "pick with labelled": f"pick {ON} --batch-size 3 --labelled labelled.txt",
    "pick more than there are": f"pick {ON} --batch-size 50",
    "pick slices": f"pick {ON} --batch-size 3 --conf unit slice --conf views.planes [axial]",
    "pick with a configuration": "pick --studies studies --state state --config good.yaml",
    "report": f"report {ON} --batch-size 3 --out page.html",
    "export": f"export {ON} --out pool.npz",
    "export decisions": f"export {ON} --decisions --out decisions.csv",
    "list": "list",
    "list strategies": "list strategies",
    "list encoders": "list encoders",
    "list failed": f"list --failed {ON}",
    "check": "check",
    "check keys": "check --keys",
    "check with keys": "check --conf batch_size 7 --seed 3 --strategy ward --conf views.size 64",
    "bench": "bench encoder pixels",
    "version": "--version",
}
COMPARED = {
    "compare": f"{COMPARE} {ARMS} --out results --no-tests",
    "compare again": f"{COMPARE} {ARMS} --out results --no-tests",
    "ranks": "ranks results",
}
DEMO = f"demo --once {FAST.replace('--state state', '--state demo-state')} --batch-size 4"
BAD = {
    "no command": "",
    "unknown command": "pock",
    "unknown option": f"pick {ON} --batchsize 3",
    "no studies": "embed",
    "missing studies": "embed --studies missing",
    "studies are a file": "embed --studies labelled.txt",
    "empty studies": "embed --studies empty",
    "state inside the studies": "embed --studies studies --state studies/state",
    "state is a file": "embed --studies studies --state labelled.txt --encoder pixels",
    "unknown key": "check --conf sede 1",
    "unknown inner key": "check --conf views.sise 1",
    "wrong type": "check --conf batch_size many",
    "value without key": "check --conf batch_size",
    "not a flag": "check --conf auto_next perhaps",
    "missing configuration": "check --config missing.yaml",
    "broken configuration": "check --config broken.yaml",
    "configuration of no keys": "check --config list.yaml",
    "empty configuration": "check --config empty.yaml",
    "many problems": "check --config problems.yaml",
    "unknown encoder": f"pick {ON} --encoder dinov9",
    "missing graph": "pick --studies studies --state state --encoder onnx:missing.onnx",
    "unknown strategy": f"pick {ON} --strategy kmean",
    "no batch": f"pick {ON} --batch-size 0",
    "batch of no number": f"pick {ON} --batch-size many",
    "negative seed": f"pick {ON} --seed -1",
    "missing labelled": f"pick {ON} --labelled missing.txt",
    "foreign labelled": f"pick {ON} --batch-size 2 --labelled foreign.txt",
    "nothing left": f"pick {ON} --labelled all.txt",
    "report to nowhere": f"report {ON} --out missing/page.html",
    "report without out": f"report {ON}",
    "export to nowhere": f"export {ON} --out missing/pool.npz",
    "export decisions to nowhere": f"export {ON} --decisions --out missing/decisions.csv",
    "list failed of nothing": "list --failed",
    "list what": "list nonsense",
    "bench what": "bench strategy",
    "bench unknown": "bench encoder dinov9",
    "ranks of missing": "ranks missing",
    "ranks of no results": "ranks empty",
    "compare without labels": f"compare studies {FAST.replace('--encoder pixels', '')} --out out",
    "compare missing labels": f"{COMPARE} --out out".replace("classes.csv", "missing.csv"),
    "compare missing column": f"{COMPARE} --out out".replace("classes.csv", "classes.csv#colour"),
    "compare unknown strategy": f"{COMPARE} --out out --strategies kmean",
    "compare unknown encoder": f"{COMPARE} --out out --encoders dinov9",
    "compare unknown scaling": f"{COMPARE} --out out --encoders pixels --scalings none,zz",
    "compare budgets of no number": f"{COMPARE} --out out --budgets few",
    "compare unknown preset": f"{COMPARE} --out out --preset nonsense",
    "compare quick and train": f"{COMPARE} --out out --quick --train",
}
BAD_SERVED = {
    "serve without studies": "serve",
    "serve missing studies": "serve --studies missing",
    "serve unknown key": "serve --studies studies --conf sede 1",
    "serve inside the studies": "serve --studies studies --state studies/state",
    "serve at no port": "serve --studies studies --port many",
    "serve from a state that is a file": "serve --studies studies --state labelled.txt",
    "demo unknown strategy": "demo --once --studies studies --strategy kmean",
    "demo missing configuration": "demo --once --config missing.yaml",
    "demo state inside": "demo --once --studies studies --state studies/state",
}
FILES = {
    "labelled.txt": "study_01\nstudy_02\n",
    "foreign.txt": "study_01\nsomebody\n",
    "all.txt": "".join(f"study_{number:02d}\n" for number in range(12)),
    "classes.csv": "file,label\n" + "".join(f"study_{n:02d}.nii.gz,{'ab'[n % 2]}\n" for n in range(12)),
    "good.yaml": "encoder: pixels\nbatch_size: 2\nstrategy: ward\nn_workers: 1\nviews: {size: 32}\n",
    "broken.yaml": "encoder: [pixels\nseed: 1\n",
    "list.yaml": "- encoder\n- pixels\n",
    "empty.yaml": "",
    "problems.yaml": "encodr: pixels\nstrategy: kmean\nbatch_size: 0\nviews: {sise: 3, planes: [up]}\nseed: x\n",
    "studies/broken.nii": "",
    "studies/notes.txt": "no study\n",
}
needs_monailabel = pytest.mark.skipif(
    importlib.util.find_spec("monailabel") is None, reason="pip install 'firstpick[server]'"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder to run commands in: studies, configurations, lists; and a user without history."""
    folder = tmp_path_factory.mktemp("golden")
    write_volumes(folder / "studies", 12)
    (folder / "empty").mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HOME", str(folder / "home"))
        patch.setenv("COLUMNS", "120")
        for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
            patch.setenv(name, str(folder / "home" / name.lower()))
        run(*shlex.split(f"embed {ON}"))
        yield folder


def said(line, folder):
    """How a command ended and what it printed, as it is recorded."""
    status, out, err = run(*shlex.split(line))
    return {
        "command": plain(line, folder),
        "status": status,
        "stderr": shown(plain(err, folder)),
        "stdout": steady(shown(plain(out, folder))),
    }


def shown(text):
    """Lines as they stay on a screen: without progress bars and usage, which wraps as each Python likes."""
    lines = [line.rpartition("\r")[2].rstrip() for line in text.split("\n")]
    lines = [line for line in lines if line and not re.search(r"\d+%\|.*\|", line)]
    if any(line.startswith("usage: ") for line in lines):
        lines = lines[-1:]
    return [re.sub(r"\(choose from .*\)", lambda found: found.group().replace("'", ""), line) for line in lines][:200]


def steady(lines):
    """Without what depends on the machine: speeds, and which libraries are installed."""
    lines = [re.sub(r"(\d-D) +(yes|no) +(yes|none|no)?", r"\1 <installed> ", line) for line in lines]
    lines = [re.sub(r"\d+\.\d+ (s|MB)\b", r"<number> \1", line) for line in lines]
    return [re.sub(r'("pool_hash": )"\w+"', r'\1"<hash>"', line) for line in lines]


@pytest.mark.parametrize("name", [*GOOD, *BAD])
def test_a_command_says_what_is_recorded(name, place):
    compare("commands", name, said({**GOOD, **BAD}[name], place))


@needs_monailabel
@pytest.mark.parametrize("name", BAD_SERVED)
def test_a_command_of_the_server_refuses_as_is_recorded(name, place):
    compare("commands", name, said(BAD_SERVED[name], place))


@pytest.mark.slow
def test_a_comparison_says_what_is_recorded(place):
    pytest.importorskip("matplotlib", reason="pip install 'firstpick[evaluate]'")
    found = {name: said(line, place) for name, line in COMPARED.items()}
    tables = (place / "results" / "tables.md").read_text(encoding="utf-8")
    compare("commands", "comparison", {**found, "tables": tables.splitlines()})


@pytest.mark.slow
@needs_monailabel
def test_the_demo_says_what_is_recorded(place):
    compare("commands", "demo", said(DEMO, place))


@pytest.mark.parametrize("path", sorted((ROOT / "sample_configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_sample_configuration_is_checked_as_is_recorded(path, place):
    compare("sample_configs", path.name, said(f"check --config {shlex.quote(str(path))}", place))


@pytest.mark.parametrize(("name", "status"), [("check", 0), ("unknown key", 2), ("unknown command", 2)])
def test_the_status_is_the_one_of_the_process(name, status, place):
    program = "import sys; from firstpick.cli import main; sys.exit(main())"
    line = {**GOOD, **BAD}[name]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ended = subprocess.run(
        [sys.executable, "-c", program, *shlex.split(line)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    in_process = run(*shlex.split(line))
    assert ended.returncode == in_process[0] == status
    assert shown(ended.stdout) == shown(in_process[1])
    assert [text.removeprefix("-c") for text in shown(ended.stderr)] == shown(in_process[2])
