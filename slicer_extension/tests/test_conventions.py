"""What Slicer asks of a module: packaging that works, sample data, settings, parameters, nothing left behind."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import qt
import SampleData
import slicer
from stage import HERE, MODULE, Reader
from test_bad_paths import block, connected, recorded  # noqa: F401 - fixtures
from test_packaging import EXTENSION, ROOT, cmake_list

import FirstPick


class Parent:
    """What Slicer hands to the class of a module."""

    path = str(MODULE / "FirstPick.py")


@pytest.fixture
def started(monkeypatch):
    """A Slicer with a main window that has just started."""
    monkeypatch.setattr(slicer.app, "hasNoMainWindow", False)
    SampleData.sources.clear()
    slicer.app._dialog.panels.clear()
    module = FirstPick.FirstPick(Parent())
    slicer.app.fire("startupCompleted()")
    yield module
    slicer.app.h["startupCompleted()"].clear()


# -- the module's own test, as it is installed


def install(folder):
    """Copy what is listed for packaging into one flat folder, as Slicer does."""
    text = (MODULE / "CMakeLists.txt").read_text()
    for name in (*cmake_list(text, "MODULE_PYTHON_SCRIPTS"), *cmake_list(text, "MODULE_PYTHON_RESOURCES")):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(MODULE / name, target)
    return folder


def test_the_modules_own_test_truly_runs_where_the_module_is_installed(tmp_path):
    folder = install(tmp_path / "qt-scripted-modules")
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]; import slicer_harness, slicer;"
        "slicer.modules.firstpick = slicer_harness.Module('FirstPick', path=sys.argv[2] + '/FirstPick.py');"
        "import FirstPick; FirstPick.FirstPickTest().runTest()"
    )
    command = [sys.executable, "-c", code, str(HERE / "host"), str(folder)]
    environment = {key: value for key, value in os.environ.items() if key != "FIRSTPICK_SERVER"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "Test passed."
    assert "not tested" not in done.stdout


# -- sample data, settings, help


def test_sample_data_is_offered_and_loads_without_any_network(started, tmp_path):
    slicer.mrmlScene.GetCacheManager().SetRemoteCacheDirectory(str(tmp_path))
    source = SampleData.sources["FirstPick"]["Six small studies"]
    assert source.uris is None  # nothing is fetched
    assert os.path.isfile(source.thumbnailFileName)
    nodes = SampleData.press("FirstPick", "Six small studies")
    assert len(nodes) == 6
    assert all(node.GetImageData().GetDimensions() == (12, 15, 10) for node in nodes)
    assert len(list((tmp_path / "FirstPickStudies").glob("*.nii.gz"))) == 6
    for node in nodes:
        slicer.mrmlScene.RemoveNode(node)


def test_a_slicer_without_the_sample_data_module_starts(monkeypatch):
    monkeypatch.setitem(sys.modules, "SampleData", None)
    monkeypatch.setattr(slicer.app, "hasNoMainWindow", True)
    slicer.app._dialog.panels.clear()
    FirstPick.FirstPick(Parent())
    slicer.app.fire("startupCompleted()")
    slicer.app.h["startupCompleted()"].clear()
    assert slicer.app._dialog.panels == {}


def test_the_settings_panel_reads_and_writes(started):
    from FirstPickLib.preferences import setting

    panel = slicer.app._dialog.panels["FirstPick"]
    boxes = {box.accessibleName: box for box in panel.findChildren(qt.QSpinBox)}
    assert [box.value for box in boxes.values()] == [30, 5]
    assert all(box.toolTip for box in boxes.values())
    boxes["Save what is drawn every"].value = 45
    boxes["Count no pause longer than"].value = 8
    assert (setting("autosaveSeconds"), setting("idleMinutes")) == (45, 8)
    assert qt.QSettings().contains("FirstPick/autosaveSeconds")


def test_the_help_text_links_to_the_manual(started):
    link = re.search(r'href="([^"]+)"', started.parent.helpText)[1]
    assert link.endswith("/slicer_extension/README.md")


def test_the_repository_has_one_name_and_one_line_says_that_it_is_a_placeholder():
    cmake = (ROOT / "CMakeLists.txt").read_text()
    texts = [cmake, (EXTENSION / "FirstPick.json").read_text(), (MODULE / "FirstPick.py").read_text()]
    names = {
        name for text in texts for name in re.findall(r"github(?:usercontent)?\.com/([\w-]+/SlicerFirstPick)", text)
    }
    assert len(names) == 1
    assert len([line for line in cmake.splitlines() if "laceholder" in line]) == 1


# -- the parameter node: what is written is read


def test_every_parameter_of_the_scene_is_read(connected):  # noqa: F811
    source = "\n".join(path.read_text() for path in [MODULE / "FirstPick.py", *(MODULE / "FirstPickLib").glob("*.py")])
    interface = (MODULE / "Resources" / "UI" / "FirstPick.ui").read_text()
    import FirstPickLib.logic

    parameters = [name for name in vars(FirstPickLib.logic.FirstPickParameterNode) if name in ("batchSize", "strategy")]
    assert sorted(parameters) == ["batchSize", "strategy"]
    for name in ("studyId", "volume", "segmentation"):
        assert not hasattr(FirstPickLib.logic.FirstPickParameterNode, name)
    assert "<string>batchSize</string>" in interface
    assert re.search(r"_parameterNode\.strategy\b(?! =)", source)


def test_strategy_and_size_of_the_next_batch_belong_to_the_scene(connected):  # noqa: F811
    box = connected.ui.strategyBox
    names = [box.itemData(i) for i in range(box.count)]
    other = next(name for name in names if name != box.itemData(box.currentIndex))
    box.currentIndex = names.index(other)
    box.activated.emit(names.index(other))
    connected.ui.batchSizeBox.value = 7
    connected.widget.exit()
    box.currentIndex = 0 if names.index(other) else 1
    connected.ui.batchSizeBox.value = 10
    connected.widget.enter()
    assert box.itemData(box.currentIndex) == other
    assert connected.ui.batchSizeBox.value == 7
    slicer.mrmlScene.Clear(0)
    assert connected.ui.batchSizeBox.value == 10


# -- patients' volumes


def volumes():
    """Files of studies in the temporary folder."""
    return [path for path in Path(slicer.app.temporaryPath, "FirstPick").rglob("*") if path.name.endswith(".nii.gz")]


def test_volumes_leave_the_temporary_folder_with_the_module(recorded):  # noqa: F811
    one, other = Reader(), Reader()
    for reader, name in ((one, "alice"), (other, "bob")):
        reader.connect(recorded.address, name)
        reader.press("openButton")
    assert len(volumes()) >= 2
    one.close()
    left = volumes()
    assert left
    assert {path.parent for path in left} == {Path(other.logic.cacheFolder)}
    other.close()
    assert list(Path(slicer.app.temporaryPath, "FirstPick").iterdir()) == []


def test_volumes_leave_the_temporary_folder_with_slicer(recorded):  # noqa: F811
    reader = Reader()
    reader.connect(recorded.address)
    reader.press("openButton")
    assert volumes()
    slicer.app.fire("aboutToQuit()")
    assert volumes() == []
    reader.close()


HOLD = (
    "import sys, time; sys.path[:0] = sys.argv[1:]; from FirstPickLib.copies import Copies; import pathlib;"
    "copies = Copies(sys.argv[2]); pathlib.Path(copies.folder, 'scan.nii.gz').write_bytes(b'voxels');"
    "print(copies.folder, flush=True); time.sleep(60)"
)


def test_what_a_killed_slicer_left_goes_at_the_next_start_and_a_running_ones_stays(started, settings):
    parent = settings / "temporary" / "FirstPick"
    command = [sys.executable, "-c", HOLD, str(MODULE), str(parent)]
    killed, running = (subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2))
    try:
        left, kept = (Path(one.stdout.readline().strip(), "scan.nii.gz") for one in (killed, running))
        killed.kill()
        killed.wait()
        assert left.exists()
        started.onStartupCompleted()
        assert not left.exists()
        assert not left.parent.exists()
        assert kept.exists()
    finally:
        for one in (killed, running):
            one.kill()
            one.wait()
            one.stdout.close()
    started.onStartupCompleted()
    assert list(parent.iterdir()) == []


def test_the_recorded_studies_are_what_the_sample_data_says():
    images = json.loads((MODULE / "Testing" / "Python" / "recorded.json").read_text())["images"]
    assert len(images) == 6
