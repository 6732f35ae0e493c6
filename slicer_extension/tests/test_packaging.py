"""Everything is packaged that is needed, and nothing is written that PythonQt or an older Python cannot do."""

import ast
import json
import re
import shutil
import struct
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from stage import HERE, MODULE

ROOT = HERE.parents[1]
EXTENSION = HERE.parent
SOURCES = [MODULE / "FirstPick.py", *sorted((MODULE / "FirstPickLib").glob("*.py"))]
WIDGETS = {"ctkCollapsibleButton", "qMRMLWidget", "QComboBox", "QFrame", "QLabel", "QLineEdit", "QProgressBar"}
WIDGETS |= {"QCheckBox", "QListWidget", "QPushButton", "QSpinBox", "QTableWidget", "QToolButton"}

on_every_source = pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)


def cmake_list(text, name):
    entries = re.search(rf"set\({name}\s+(.*?)\)", text, re.DOTALL)[1].split()
    return [entry.replace("${MODULE_NAME}", "FirstPick") for entry in entries]


def test_every_file_is_listed_for_packaging():
    text = (MODULE / "CMakeLists.txt").read_text()
    scripts = cmake_list(text, "MODULE_PYTHON_SCRIPTS")
    resources = cmake_list(text, "MODULE_PYTHON_RESOURCES")
    assert sorted(scripts) == sorted(path.relative_to(MODULE).as_posix() for path in SOURCES)
    on_disk = [path.relative_to(MODULE).as_posix() for path in (MODULE / "Resources").rglob("*") if path.is_file()]
    on_disk += ["Testing/Python/RecordedServer.py", "Testing/Python/recorded.json"]
    assert sorted(resources) == sorted(on_disk)


def test_the_user_interface_has_only_known_widgets_and_each_name_once():
    widgets = list(ET.parse(MODULE / "Resources" / "UI" / "FirstPick.ui").iter("widget"))
    assert {widget.get("class") for widget in widgets} <= WIDGETS
    names = [widget.get("name") for widget in widgets]
    assert len(names) == len(set(names))
    used = set(re.findall(r"\bui\.(\w+)", (MODULE / "FirstPick.py").read_text()))
    assert used <= set(names)


@pytest.mark.parametrize("path", [EXTENSION / "FirstPick.png", MODULE / "Resources" / "Icons" / "FirstPick.png"])
def test_icons_are_128_pixels_square(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == (128, 128)


def test_screenshots_have_the_width_of_the_panel_and_are_small():
    paths = sorted((EXTENSION / "Screenshots").glob("*.png"))
    stations = ("all_done", "connect", "draft", "map", "reading", "series", "skip", "worklist")
    assert [path.stem for path in paths] == [f"{name}_{theme}" for name in stations for theme in ("dark", "light")]
    for path in paths:
        data = path.read_bytes()
        assert struct.unpack(">I", data[16:20]) == (430,)
        assert len(data) < 150_000


def test_what_the_extensions_index_asks_for():
    entry = json.loads((EXTENSION / "FirstPick.json").read_text())
    allowed = {"$schema", "category", "scm_url", "scm_revision", "build_dependencies", "build_subdirectory", "tier"}
    assert {"$schema", "category", "scm_url"} <= set(entry) <= allowed
    assert entry["category"] == "Active Learning"
    assert b"\r" not in (EXTENSION / "FirstPick.json").read_bytes()
    text = (ROOT / "CMakeLists.txt").read_text()
    assert re.search(r"project\((\w+)\)", text)[1] == "FirstPick"
    for name in ("HOMEPAGE", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS", "DEPENDS"):
        assert re.search(rf'set\(EXTENSION_{name} "[^"]+"\)', text)
    urls = re.search(r'EXTENSION_SCREENSHOTURLS "([^"]+)"', text)[1].split()
    urls.append(re.search(r'EXTENSION_ICONURL "([^"]+)"', text)[1])
    assert all((ROOT / url.partition("/main/")[2]).is_file() for url in urls)
    assert (ROOT / "LICENSE").is_file()


TRAPS = {
    r"^\s*(import threading|from threading|import PySide|from PySide|import PyQt|from PyQt)": "Slicer has neither",
    r"isinstance\([^)]*qt\.": "false for every base class but the widget's own",
    r"\.position\(\)": "Qt 6 only",
    r"QApplication\.quit\(": "needs the instance",
    r"""\b_\(\s*f["']""": "a translation cannot be found",
    r"\.clicked\.connect|\.triggered\.connect": "connect by signature, which a test can check",
    r"\bfirstpick\b(?!/)": "the module needs no package",
    r"time\.sleep\(.*\)(?<!0\.01\))": "the window would stand still",
    r"mrmlScene\.Clear(?!\(0\)$)": "never other people's nodes",
    r"\bexec_?\(|QMessageBox|errorDisplay|confirm\w+Display": "nothing pops up",
    r"pip_install|\brequests\b|urllib\.request": "all traffic goes by Qt, and no package is needed",
}


@on_every_source
def test_no_trap_of_pythonqt(path):
    text = path.read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), 1):
        for trap, why in TRAPS.items():
            code = line.partition("#")[0]
            if '"""' not in code and not re.search(r'^\s*["`]|"/firstpick', code):
                assert not re.search(trap, code), f"{path.name}:{number}: {line.strip()} ({why})"


@on_every_source
def test_properties_are_read_without_calling_them(path):
    """PythonQt has properties as attributes: calling one is an error there, and passes in other bindings."""
    properties = {"text", "enabled", "visible", "currentText", "currentIndex", "count", "rowCount", "width", "value"}
    called = [
        f"{path.name}:{node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in properties
        and "ui." in ast.unparse(node.func)
    ]
    assert not called


@on_every_source
def test_signals_are_connected_by_full_signatures(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "connect" and len(node.args) == 2:
            signal = node.args[0]
            if isinstance(signal, ast.Constant):
                assert re.fullmatch(r"\w+\([\w,*]*\)", signal.value), ast.unparse(node)


def pythons():
    found = {sys.version_info[:2]: sys.executable}
    for minor in (9, 12):
        path = shutil.which(f"python3.{minor}")
        version = subprocess.run([path, "-V"], capture_output=True, text=True, check=False) if path else None
        if version is not None and version.returncode == 0:
            found[3, minor] = path
    return found


@pytest.mark.parametrize("version", sorted(pythons()), ids=str)
def test_every_file_compiles(version):
    code = "import sys; [compile(open(path, encoding='utf-8').read(), path, 'exec') for path in sys.argv[1:]]"
    files = [*SOURCES, MODULE / "Testing" / "Python" / "RecordedServer.py"]
    subprocess.run([pythons()[version], "-c", code, *map(str, files)], check=True)


def test_the_files_need_no_newer_syntax_than_python_3_9():
    for path in SOURCES:
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))


def test_the_wishes_in_the_manual_name_tests_that_exist():
    wishes = (EXTENSION / "README.md").read_text().partition("## What readers ask")[2]
    named = set(re.findall(r"`(test_\w+)`", wishes))
    written = {path.stem for path in HERE.glob("test_*.py")}
    written |= set(re.findall(r"^def (test_\w+)", "\n".join(path.read_text() for path in HERE.glob("test_*.py")), re.M))
    assert len(named) > 20
    assert named <= written


def test_nothing_of_the_module_lies_elsewhere():
    assert {path.name for path in MODULE.iterdir() if path.name != "__pycache__"} == {
        *("CMakeLists.txt", "FirstPick.py", "FirstPickLib", "Resources", "Testing"),
    }
    assert Path(MODULE / "Testing" / "CMakeLists.txt").is_file()


NOT_FOR_READERS = {"FirstPick contributors", "Test passed.", "FirstPick label", "FirstPick labels", "Six small studies"}


@on_every_source
def test_every_sentence_that_people_read_is_translated(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    known = set()
    for node in ast.walk(tree):
        isCall = isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("_", "translate")
        isDoc = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isCall or isDoc:
            known.update(ast.walk(node))
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and node not in known]
    sentences = [text for text in texts if isinstance(text, str) and re.search("[A-Za-z]{2,} [a-z]{2,}", text)]
    assert set(sentences) <= NOT_FOR_READERS
