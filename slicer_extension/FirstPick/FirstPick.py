"""Which study to segment next, and why: the work list of a FirstPick server, from the first pick to the last label."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

import numpy as np
import qt
import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

from FirstPickLib.editor import SegmentEditor
from FirstPickLib.logic import FirstPickLogic
from FirstPickLib.mapwidget import MapWidget
from FirstPickLib.table import WorkListTable
from FirstPickLib.worklist import FILTERS, plainTooltip, sliceText

SKIP_REASONS = ("poor quality", "wrong anatomy", "duplicate", "cannot decide")


class FirstPick(ScriptedLoadableModule):
    """What Slicer shows of the module in its lists."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("FirstPick")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Active Learning")]
        parent.dependencies = ["SegmentEditor", "Segmentations", "Volumes"]
        parent.contributors = ["FirstPick contributors"]
        parent.helpText = _(
            "Shows which studies of a FirstPick server to segment first and why, opens them one after the other and "
            "submits the labels. Research software; not for clinical use."
        )
        parent.acknowledgementText = _("Works with FirstPick's MONAI Label server.")


class FirstPickWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Shows what the logic knows and hands on what the reader wants."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameterNode = None
        self._parameterTag = None
        self._shortcuts = []
        self._connectedTo = ""

    # -- life

    def setup(self):
        """Build the panel."""
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/FirstPick.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.uiWidget = uiWidget
        self.logic = FirstPickLogic()
        self.logic.listeners.append(self.update)
        self.table = WorkListTable(self.ui.table, self.logic)
        self.map = MapWidget(self.logic)
        self.ui.mapFrame.layout().addWidget(self.map)
        self.editor = SegmentEditor(self.ui.editorFrame)
        self._connectSignals()
        self._restoreSettings()
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.initializeParameterNode()
        for what in ("server", "worklist", "reading", "notice"):
            self.update(what)

    def _connectSignals(self):
        ui = self.ui
        ui.connectButton.connect("clicked(bool)", self.onConnect)
        ui.readerEdit.connect("returnPressed()", self.onConnect)
        ui.addressBox.lineEdit().connect("returnPressed()", self.onConnect)
        ui.filterBox.connect("currentIndexChanged(int)", self.onFilter)
        ui.searchEdit.connect("textChanged(QString)", self.onFilter)
        ui.newBatchButton.connect("clicked(bool)", self.onNewBatch)
        ui.openButton.connect("clicked(bool)", self.onOpen)
        ui.previousButton.connect("clicked(bool)", lambda: self.logic.openNeighbour(-1))
        ui.nextButton.connect("clicked(bool)", lambda: self.logic.openNeighbour(1))
        ui.submitButton.connect("clicked(bool)", lambda: self.logic.submit())
        ui.draftButton.connect("clicked(bool)", lambda: self.logic.saveDraft())
        ui.closeButton.connect("clicked(bool)", lambda: self.logic.closeStudy())
        ui.skipButton.connect("toggled(bool)", self.onSkipToggled)
        ui.confirmSkipButton.connect("clicked(bool)", self.onSkip)
        ui.skipBox.lineEdit().connect("returnPressed()", self.onSkip)
        ui.yesButton.connect("clicked(bool)", lambda: self.logic.answer(True))
        ui.noButton.connect("clicked(bool)", lambda: self.logic.answer(False))
        ui.cancelButton.connect("clicked(bool)", lambda: self.logic.cancel())
        ui.sliceBox.connect("activated(int)", self.logic.jumpTo)
        self.table.opened = self.logic.open
        self.table.selected = self.onSelected
        self.map.clicked = self.onMapClicked
        ui.skipBox.addItems([_(reason) for reason in SKIP_REASONS])

    def _restoreSettings(self):
        settings = qt.QSettings()
        first = slicer.util.settingsValue("MONAILabel/serverUrl", "") or "http://127.0.0.1:8000"
        history = slicer.util.settingsValue("FirstPick/serverUrlHistory", "").split(";")
        self.ui.addressBox.addItems([address for address in history if address] or [first])
        self.ui.readerEdit.text = (
            slicer.util.settingsValue("FirstPick/clientId", "") or settings.value("MONAILabel/clientId") or ""
        )
        if self.ui.readerEdit.text in ("admin", "user-xyz"):
            self.ui.readerEdit.text = ""

    def cleanup(self):
        """Let go of everything."""
        self.exit()
        self.logic.end()
        self.editor.cleanup()
        self.removeObservers()
        self._setParameterNode(None)

    def enter(self):
        """Take keys and the scene's parameters."""
        self.initializeParameterNode()
        self.editor.enter()
        window = slicer.util.mainWindow() or self.parent
        if not self._shortcuts:
            for keys, slot in (
                ("Ctrl+Return", lambda: self.logic.submit()),
                ("Ctrl+Shift+Right", lambda: self.logic.openNeighbour(1)),
                ("Ctrl+Shift+Left", lambda: self.logic.openNeighbour(-1)),
                ("Ctrl+Shift+K", lambda: self.ui.skipButton.toggle()),
                ("Ctrl+Shift+D", lambda: self.logic.saveDraft()),
            ):
                shortcut = qt.QShortcut(window)
                shortcut.setKey(qt.QKeySequence(keys))
                shortcut.connect("activated()", slot)
                self._shortcuts.append(shortcut)
        self.logic.poll()

    def exit(self):
        """Give the keys back."""
        for shortcut in self._shortcuts:
            shortcut.setParent(None)
            shortcut.deleteLater()
        self._shortcuts = []
        self.editor.exit()
        self._setParameterNode(None)

    def onReload(self):
        """Load the parts anew as well."""
        for name in [name for name in sys.modules if name.partition(".")[0] == "FirstPickLib"]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def onSceneStartClose(self, caller=None, event=None):
        """Keep what is drawn while its nodes are there."""
        self.logic.sceneCloses()
        self._setParameterNode(None)

    def onSceneEndClose(self, caller=None, event=None):
        """Begin anew in the empty scene."""
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self):
        """Take what belongs to the scene."""
        self._setParameterNode(self.logic.getParameterNode())

    def _setParameterNode(self, node):
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._parameterTag)
        self._parameterNode = node
        if node is not None:
            self._parameterTag = node.connectGui(self.ui)

    # -- what the reader does

    def onConnect(self, *_args):
        """Ask the server how it is."""
        self.logic.connect(self.ui.addressBox.currentText, self.ui.readerEdit.text)

    def onFilter(self, *_args):
        """Show other lines."""
        self.table.fill(*self._filter())

    def _filter(self):
        return FILTERS[max(self.ui.filterBox.currentIndex, 0)], self.ui.searchEdit.text

    def onNewBatch(self):
        """Make a new batch of the strategy and size chosen."""
        box = self.ui.strategyBox
        self.logic.newBatch(box.itemData(box.currentIndex) or "", self.ui.batchSizeBox.value)

    def onSelected(self, studyId):
        """Show the same study in the map, and what can be done with it."""
        self.map.select(studyId)
        self._updateOpenButton()

    def onMapClicked(self, studyId):
        """Select a study that was clicked in the map, or the pick that stands for it."""
        worklist = self.logic.worklist
        if worklist.row(studyId) is None:
            owner = worklist.standsWith(studyId)
            text = _("{study} is not in this batch; {pick} stands for it.")
            self.logic.say(text.format(study=worklist.title(studyId), pick=worklist.title(owner)))
            studyId = owner
        if not self.table.select(studyId):
            self.ui.filterBox.currentIndex = 0
            self.ui.searchEdit.text = ""
            self.table.select(studyId)

    def onOpen(self):
        """Open the selected study; undo a skip; open a done study again."""
        studyId = self.table.selectedStudy()
        row = self.logic.worklist.row(studyId) if self.logic.worklist else None
        if row is None:
            self.logic.openNext()
        elif row.status == "skipped":
            self.logic.unskip(studyId)
        elif row.status == "done":
            self.logic.reopen(studyId)
        else:
            self.logic.open(studyId)

    def onSkipToggled(self, isOn):
        """Show or hide the reasons."""
        self.ui.skipFrame.visible = isOn and self.ui.skipButton.enabled
        if isOn:
            self.ui.skipBox.setFocus()
            self.ui.skipBox.lineEdit().selectAll()

    def onSkip(self):
        """Skip the open study, or the selected one."""
        reading = self.logic.reading
        studyId = reading.studyId if reading else self.table.selectedStudy()
        reason = self.ui.skipBox.currentText.strip()
        if not reason:
            self.logic.say(_("Type why, or choose a reason."))
            return
        self.ui.skipButton.checked = False
        if studyId:
            self.logic.skip(studyId, reason)

    # -- what the logic knows

    def update(self, what):
        """Show one part again."""
        {
            "server": self._updateServer,
            "worklist": self._updateWorkList,
            "reading": self._updateReading,
            "notice": self._updateNotice,
        }[what]()

    def _updateServer(self):
        logic, ui = self.logic, self.ui
        ui.serverLabel.text = logic.connection
        if logic.isConnected and logic.client.address != self._connectedTo:
            self._rememberServer()
            ui.serverSection.collapsed = True
        if not logic.isConnected:
            self._connectedTo = ""
            ui.serverSection.collapsed = False
        ui.serverSection.text = _("Server: connected") if logic.isConnected else _("Server")
        names = [row["name"] for row in logic.strategies]
        if names != [ui.strategyBox.itemData(i) for i in range(ui.strategyBox.count)]:
            ui.strategyBox.clear()
            for number, row in enumerate(logic.strategies):
                ui.strategyBox.addItem(row["name"], row["name"])
                ui.strategyBox.setItemData(number, row["description"], qt.Qt.ToolTipRole)
            wanted = self._parameterNode.strategy if self._parameterNode else ""
            name = wanted if wanted in names else logic.strategy
            if name in names:
                ui.strategyBox.currentIndex = names.index(name)
        self._updateEnabled()

    def _rememberServer(self):
        client, box = self.logic.client, self.ui.addressBox
        history = [client.address, *(box.itemText(i) for i in range(box.count) if box.itemText(i) != client.address)]
        box.clear()
        box.addItems(history[:10])
        self._connectedTo = client.address
        settings = qt.QSettings()
        settings.setValue("FirstPick/serverUrlHistory", ";".join(history[:10]))
        settings.setValue("FirstPick/clientId", client.reader)

    def _updateWorkList(self):
        logic, ui = self.logic, self.ui
        self.table.fill(*self._filter())
        self.map.setWorkList(logic.worklist)
        ui.worklistSection.visible = ui.mapSection.visible = logic.worklist is not None
        picks = logic.worklist.picks if logic.worklist else ()
        ui.batchProgress.maximum = max(len(picks), 1)
        ui.batchProgress.value = len(picks) - (logic.worklist.openPicks if logic.worklist else 0)
        ui.progressLabel.text = logic.worklist.progressText() if logic.worklist else ""
        ui.allDoneFrame.visible = bool(logic.worklist) and logic.worklist.isAllDone
        self._updateReading()

    def _updateReading(self):
        logic, ui = self.logic, self.ui
        reading = logic.reading
        if self.editor.setNodes(reading):
            self.table.select(reading.studyId if reading else "")
            if reading:
                ui.worklistSection.collapsed = ui.mapSection.collapsed = True
        elif not reading and not logic.isBusy:
            ui.worklistSection.collapsed = ui.mapSection.collapsed = False
        ui.readingSection.visible = reading is not None
        if reading:
            row = logic.worklist.row(reading.studyId) if logic.worklist else None
            ui.studyLabel.text = f"{row.rank}. {reading.title}" if row and row.rank else reading.title
            ui.studyLabel.toolTip = plainTooltip(reading.studyId)
            ui.reasonLabel.text = row.reason if row else ""
            ui.reasonLabel.visible = bool(ui.reasonLabel.text)
            ui.stateLabel.text = reading.lost or (_("Not saved yet") if reading.isDirty else "")
            ui.stateLabel.visible = bool(ui.stateLabel.text)
            ui.sliceFrame.visible = bool(reading.slices)
            texts = [sliceText(one) for one in reading.slices]
            if texts != [ui.sliceBox.itemText(i) for i in range(ui.sliceBox.count)]:
                ui.sliceBox.clear()
                ui.sliceBox.addItems(texts)
        self._updateEnabled()

    def _updateEnabled(self):
        logic, ui = self.logic, self.ui
        isFree = not logic.isBusy
        for widget in (ui.submitButton, ui.draftButton, ui.closeButton, ui.skipButton, ui.editorFrame):
            widget.enabled = isFree and logic.reading is not None
        neighbours = [
            bool(logic.reading and logic.worklist and logic.worklist.neighbour(logic.reading.studyId, step))
            for step in (-1, 1)
        ]
        ui.previousButton.enabled, ui.nextButton.enabled = isFree and neighbours[0], isFree and neighbours[1]
        ui.newBatchButton.enabled = isFree and bool(logic.status) and logic.status["state"] == "ready"
        ui.connectButton.enabled = logic.canConnect
        ui.skipFrame.visible = ui.skipButton.checked and ui.skipButton.enabled
        self._updateOpenButton()

    def _updateOpenButton(self):
        logic, button = self.logic, self.ui.openButton
        row = logic.worklist.row(self.table.selectedStudy()) if logic.worklist else None
        texts = {"skipped": _("Undo skip"), "done": _("Reopen"), None: _("Open next")}
        button.text = texts.get(row.status if row else None, _("Open"))
        hasNext = bool(logic.worklist) and logic.worklist.nextOpen() is not None
        button.enabled = not logic.isBusy and (row is not None or hasNext)

    def _updateNotice(self):
        logic, ui = self.logic, self.ui
        ui.messageLabel.text = logic.question.text if logic.question else logic.message
        ui.questionFrame.visible = logic.question is not None
        if logic.question:
            ui.yesButton.text = logic.question.yes
        ui.transferFrame.visible = logic.transfer is not None
        if logic.transfer:
            text, done, total = logic.transfer
            ui.transferLabel.text = text
            ui.transferBar.maximum = 100 if total else 0
            ui.transferBar.value = int(100 * done / total) if total else 0
        ui.noticeFrame.visible = bool(ui.messageLabel.text) or logic.transfer is not None
        self._updateEnabled()


class FirstPickTest(ScriptedLoadableModuleTest):
    """Reads a study with a recorded server, and with a real one if ``FIRSTPICK_SERVER`` is the address of one."""

    def setUp(self):
        """Begin with an empty scene."""
        slicer.mrmlScene.Clear(0)

    def runTest(self):
        """Run all tests."""
        for test in (self.test_recordedServer, self.test_realServer):
            self.setUp()
            test()

    def test_recordedServer(self):
        """The whole way of a study, without a FirstPick server."""
        script = os.path.join(os.path.dirname(slicer.util.modulePath("FirstPick")), "Testing/Python/RecordedServer.py")
        if not os.path.exists(script):
            self.delayDisplay("The recorded server is beside the module's source only: not tested.")
            return
        python = shutil.which("PythonSlicer") or sys.executable
        process = subprocess.Popen(
            [python, script], stdout=subprocess.PIPE, text=True
        )  # its Python needs the environment
        try:
            self._read(process.stdout.readline().strip())
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

    def test_realServer(self):
        """The same with a real server: labels one study for good."""
        address = os.environ.get("FIRSTPICK_SERVER")
        if address:
            self._read(address)

    def _read(self, address):
        """Open the first pick, draw, submit."""
        logic = FirstPickLogic()
        try:
            logic.connect(address, "FirstPickTest")
            self._wait(lambda: logic.worklist, logic)
            logic.openNext()
            self._wait(lambda: logic.reading and not logic.isBusy, logic)
            reading = logic.reading
            mask = np.zeros(slicer.util.arrayFromVolume(reading.volume).shape[:3], np.uint8)
            mask[mask.shape[0] // 2, 1:3, 1:3] = 1
            segmentId = reading.segmentation.GetSegmentation().GetNthSegmentID(0)
            slicer.util.updateSegmentBinaryLabelmapFromArray(mask, reading.segmentation, segmentId, reading.volume)
            self.assertTrue(reading.isDirty)
            logic.submit()
            self._wait(lambda: not logic.isBusy, logic)
            row = logic.worklist.row(reading.studyId)
            isRead = "FirstPickTest" in row.readBy  # where a study needs several readers
            self.assertTrue(isRead or (row.status, row.client) == ("done", "FirstPickTest"), logic.message)
        finally:
            logic.end()
        self.delayDisplay("Test passed.")

    def _wait(self, condition, logic):
        end = time.monotonic() + 60
        while not condition():
            self.assertLess(time.monotonic(), end, f"{logic.connection} {logic.message}")
            slicer.app.processEvents()
            time.sleep(0.01)
