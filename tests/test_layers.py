"""Who may import whom, as design.md has it: read from the source, so that nothing is imported to find out."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "monailabel_app"
FILES = sorted((ROOT / "firstpick").rglob("*.py"))

# From the ground up. A module, or all modules of a package, may import what stands in a lower line, not its own line.
LAYERS = (
    {"firstpick"},  # the version
    {"studies", "database", "workers"},
    {"voxels", "selection"},
    {"board", "sources", "encoders", "proposal"},
    {"embedding"},
    {"report"},
    {"evaluate"},
    {"config"},
    {"server"},
    {"cli"},
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
PURE = {"studies", "selection", "proposal"}
PURE_MAY_IMPORT = {"firstpick", "numpy", "scipy", "sklearn", "threadpoolctl", "joblib", "kneed"}
FILE_ACCESS = {"open", "read_text", "read_bytes", "write_text", "write_bytes"}
FILE_ACCESS |= {"load", "save", "savez", "loadtxt", "savetxt", "memmap", "fromfile", "tofile"}
ONLY_IN = {
    "monailabel": {"server"},
    "fastapi": {"server"},
    "starlette": {"server"},
    "torch": {"encoders", "evaluate"},
    "onnx": {"encoders", "evaluate"},
    "onnxruntime": {"encoders", "evaluate"},
    "monai": {"encoders", "evaluate", "server"},
}


def part_of(path):
    """The name in LAYERS that a file belongs to."""
    first = path.relative_to(ROOT / "firstpick").parts[0].removesuffix(".py")
    return "firstpick" if first == "__init__" else first


def imports_of(path):
    """Full names of all that a file imports, wherever in it."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *filter(None, [node.module])])
            yield from (f"{module}.{alias.name}" for alias in node.names) if module == "firstpick" else [module]


def inner_imports(path):
    """Names in LAYERS of what a file imports from FirstPick; ``from firstpick import __version__`` is the ground."""
    for name in imports_of(path):
        if name.split(".")[0] == "firstpick":
            second = [*name.split("."), "firstpick"][1]
            yield "firstpick" if second.startswith("__") else second


on_every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))


@on_every_file
def test_every_module_has_its_place(path):
    assert part_of(path) in RANK, f"place {part_of(path)} in LAYERS, and in design.md"


@on_every_file
def test_imports_run_downwards_only(path):
    here = part_of(path)
    wrong = {name for name in inner_imports(path) if name != here and RANK.get(name, 99) >= RANK.get(here, -1)}
    assert not wrong, f"{here} must not import {wrong}"


@on_every_file
def test_only_the_doors_know_the_config(path):
    if part_of(path) not in {"server", "cli", "config"}:
        assert "config" not in set(inner_imports(path))


@on_every_file
def test_heavy_libraries_stay_in_their_rooms(path):
    for name in imports_of(path):
        allowed = ONLY_IN.get(name.split(".")[0])
        assert allowed is None or part_of(path) in allowed, f"{name} belongs into {allowed}"


@pytest.mark.parametrize("path", [f for f in FILES if part_of(f) in PURE], ids=lambda path: str(path.relative_to(ROOT)))
def test_the_core_is_pure(path):
    roots = {name.split(".")[0] for name in imports_of(path)} - set(sys.stdlib_module_names)
    assert roots <= PURE_MAY_IMPORT
    assert {"studies", "selection", "proposal", "firstpick"} >= set(inner_imports(path))
    tree = ast.parse(path.read_text(encoding="utf-8"))
    called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = {getattr(function, "id", getattr(function, "attr", "")) for function in called}
    assert not names & {*FILE_ACCESS, "print"}


def test_this_test_sees_a_trespass(tmp_path, monkeypatch):
    source = tmp_path / "firstpick" / "selection" / "bad.py"
    source.parent.mkdir(parents=True)
    code = "import torch\ndef f():\n    from ..database import set_aside\n    from firstpick import config\n"
    source.write_text(code, encoding="utf-8")
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert part_of(source) == "selection"
    assert "torch" in set(imports_of(source))
    assert set(inner_imports(source)) == {"database", "config"}
    with pytest.raises(AssertionError, match="must not import"):
        test_imports_run_downwards_only(source)
    with pytest.raises(AssertionError, match="torch belongs into"):
        test_heavy_libraries_stay_in_their_rooms(source)
    with pytest.raises(AssertionError):
        test_the_core_is_pure(source)
    with pytest.raises(AssertionError):
        test_only_the_doors_know_the_config(source)


def test_a_server_starts_without_the_heavy_libraries():
    modules = [name for name in ("selection", "proposal", "encoders", "config") if is_there(name)]
    code = (
        f"import sys, {', '.join('firstpick.' + name for name in modules)}\n"
        "heavy = {'torch', 'sklearn', 'monai', 'monailabel', 'fastapi', 'onnx'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def is_there(name):
    return any((ROOT / "firstpick" / end).exists() for end in (f"{name}.py", f"{name}/__init__.py"))
