"""Who may import whom, as design.md has it: read from the source, so that nothing is imported to find out."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "monailabel_app"

# From the ground up. A room may import what stands in a lower row; of its own row, only along an arrow.
ROWS = (
    {"firstpick"},  # the version
    {
        "voxels",
        "studies",
        "selection",
        "database",
        "workers",
        "memory",
        "origins",
        "libraries",
        "cluster",
        "drafts",
    },  # ground
    {"encoders", "sources", "proposal"},  # rooms, strangers to each other
    {"config"},  # settings
    {"learning", "embedding", "board"},  # work
    {"evaluate", "report"},  # people
    {"main", "server", "cli"},  # doors
)
ARROWS = {
    ("voxels", "studies"),
    ("workers", "memory"),
    ("learning", "embedding"),
    ("evaluate", "report"),
    ("main", "server"),
}
RANK = {name: rank for rank, names in enumerate(ROWS) for name in names}
DOORS = {"server", "cli"}
PURE = {"studies", "selection", "proposal", "board"}
PURE_MAY_IMPORT = {"firstpick", "numpy", "scipy", "sklearn", "threadpoolctl", "joblib"}
PURE_MAY_IMPORT |= {"pydantic", "pydantic_core"}
OPENS_ITS_DATABASE = "firstpick/board/log.py"
FILE_ACCESS = {"open", "read_text", "read_bytes", "write_text", "write_bytes"}
FILE_ACCESS |= {"load", "save", "savez", "loadtxt", "savetxt", "memmap", "fromfile", "tofile"}
ONLY_IN = {
    "monailabel": {"server"},
    "fastapi": {"server"},
    "starlette": {"server"},
    "distributed": {"embedding"},
    "torch": {"encoders", "learning", "evaluate"},
    "onnx": {"encoders", "evaluate"},
    "onnxruntime": {"encoders", "evaluate"},
    "monai": {"encoders", "learning", "evaluate", "server"},
}


def files():
    return sorted(path for path in ROOT.rglob("*.py") if path.parent == ROOT or "firstpick" in path.parts)


def room_of(path):
    """The name in ROWS that a file belongs to."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0] if parts[1:] in {(), ("__init__",)} else parts[1]


def imports_of(path, *, at_once=False):
    """Full names of all that a file imports, wherever in it; or only of what it imports when it is imported."""
    package = path.relative_to(ROOT).parent.parts
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if at_once else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *filter(None, [node.module])])
            is_ours = module.split(".")[0] == "firstpick"
            yield from {module_of(f"{module}.{alias.name}") for alias in node.names} if is_ours else [module]


def module_of(name):
    """The module that a name is imported from: itself, or what holds it."""
    parts = name.split(".")
    place = ROOT.joinpath(*parts)
    is_module = place.with_suffix(".py").exists() or place.is_dir() or len(parts) == 2
    return name if is_module and not parts[-1].startswith("__") else ".".join(parts[:-1])


def rooms_imported(path):
    """Names in ROWS of what a file imports from FirstPick; ``from firstpick import __version__`` is the ground."""
    names = [name.split(".") for name in imports_of(path)]
    return {[*parts, "firstpick"][1] for parts in names if parts[0] == "firstpick"}


def without_a_place(path):
    if room_of(path) not in RANK:
        yield f"place {room_of(path)} in ROWS, and in design.md"


def upwards(path):
    here = room_of(path)
    for there in rooms_imported(path) - {here}:
        if RANK.get(there, 99) >= RANK.get(here, -1) and (here, there) not in ARROWS:
            yield f"must not import {there}"


def knows_the_config(path):
    if room_of(path) not in DOORS and room_of(path) != "config" and "config" in rooms_imported(path):
        yield "only the doors read config"


def heavy(path):
    for name in imports_of(path):
        allowed = ONLY_IN.get(name.split(".")[0])
        if allowed is not None and room_of(path) not in allowed:
            yield f"{name} belongs into {', '.join(sorted(allowed))}"


def impure(path):
    if room_of(path) not in PURE:
        return
    opens = path.relative_to(ROOT).as_posix() == OPENS_ITS_DATABASE
    foreign = {name.split(".")[0] for name in imports_of(path)} - set(sys.stdlib_module_names) - PURE_MAY_IMPORT
    yield from (f"is pure, imports {name}" for name in foreign)
    ours = PURE | {"firstpick"} | ({"database"} if opens else set())
    yield from (f"is pure, imports {name}" for name in rooms_imported(path) - ours)
    calls = [node.func for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
    called = {getattr(function, "id", getattr(function, "attr", "")) for function in calls}
    yield from (f"is pure, calls {name}" for name in called & {*FILE_ACCESS, "print"} if not opens)


LAWS = (without_a_place, upwards, knows_the_config, heavy, impure)


@pytest.mark.parametrize("law", LAWS)
def test_nobody_trespasses(law):
    found = [f"{path.relative_to(ROOT)}: {what}" for path in files() for what in law(path)]
    assert not found, "\n".join(found)


def test_there_is_no_circle():
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files()
    }
    graph = {name: set(imports_of(path, at_once=True)) & modules.keys() - {name} for name, path in modules.items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_this_test_sees_a_trespass(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    bad = tmp_path / "firstpick" / "selection" / "bad.py"
    bad.parent.mkdir(parents=True)
    bad.write_text("import torch\ndef f():\n    from ..database import set_aside\n    from firstpick import config\n")
    (tmp_path / "firstpick" / "shed.py").write_text("from firstpick.selection.bad import f\n")
    assert "torch" in set(imports_of(bad))
    assert room_of(bad) == "selection"
    assert rooms_imported(bad) == {"database", "config"}
    for law in LAWS[1:]:
        with pytest.raises(AssertionError, match=r"bad\.py"):
            test_nobody_trespasses(law)
    with pytest.raises(AssertionError, match="shed"):
        test_nobody_trespasses(without_a_place)
    test_there_is_no_circle()
    bad.write_text("from firstpick import shed\n")
    with pytest.raises(graphlib.CycleError):
        test_there_is_no_circle()
    (tmp_path / "firstpick" / "cli.py").write_text("import firstpick.server.app\n")
    with pytest.raises(AssertionError, match=r"cli\.py: must not import server"):
        test_nobody_trespasses(upwards)


def test_a_server_starts_without_the_heavy_libraries():
    code = (
        "import sys, firstpick.selection, firstpick.proposal, firstpick.encoders, firstpick.config\n"
        "heavy = {'torch', 'sklearn', 'monai', 'monailabel', 'fastapi', 'onnx'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_help_imports_next_to_nothing():
    code = (
        "import sys; from firstpick.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'pydantic', 'yaml', 'torch', 'firstpick.config'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
