"""Which study to segment next, and why: the work list of a FirstPick server, from the first pick to the last label."""

from __future__ import annotations

import os
import sys

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

from FirstPickLib import selftest, words
from FirstPickLib.copies import Copies
from FirstPickLib.draftpanel import DraftPanel
from FirstPickLib.drawn import labelText
from FirstPickLib.editor import SegmentEditor
from FirstPickLib.keys import EscapeFilter, Keys
from FirstPickLib.logic import FirstPickLogic
from FirstPickLib.mapwidget import MapWidget
from FirstPickLib.notice import fillBox, showNotice
from FirstPickLib.preferences import addSettingsPanel
from FirstPickLib.readers import SHOWN, readersLines, turnText
from FirstPickLib.samples import addSampleData
from FirstPickLib.seriesrow import SeriesRow
from FirstPickLib.slicerow import SliceRow
from FirstPickLib.table import WorkListTable
from FirstPickLib.work import ENDING
from FirstPickLib.worklist import FILTERS, plainTooltip, wrappable

MANUAL = "https://github.com/firstpick/SlicerFirstPick/blob/main/slicer_extension/README.md"
RECORDED = "Testing/Python/recorded.json"
words.translateWith(translate)


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
        parent.helpText += f'<p><a href="{MANUAL}">{_("How to read a batch, keys and settings")}</a></p>'
        parent.acknowledgementText = _("Works with FirstPick's MONAI Label server.")
        slicer.app.connect("startupCompleted()", self.onStartupCompleted)

    def onStartupCompleted(self):
        """Offer settings and samples, and remove what a killed Slicer left behind."""
        addSettingsPanel()
        folder = os.path.dirname(self.parent.path)
        addSampleData(os.path.join(folder, RECORDED), self.resourcePath("Icons/FirstPick.png"))
        Copies.removeLeftovers(os.path.join(slicer.app.temporaryPath, "FirstPick"))


class FirstPickWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Shows what the logic knows and hands on what the reader wants."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameterNode = None
        self._parameterTag = None
        self._connectedTo = ""
        self._isFolded = False

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
        self.slices = SliceRow(self.ui)
        self.series = SeriesRow(self.ui, self.logic)
        self.drafts = DraftPanel(self.ui, self.logic)
        self.keys = Keys(
            {
                "Ctrl+Return": lambda: self.logic.submit(),
                "Ctrl+Shift+N": lambda: self.logic.openNeighbour(1),
                "Ctrl+Shift+P": lambda: self.logic.openNeighbour(-1),
                "Ctrl+Shift+K": lambda: self.ui.skipButton.toggle(),
                "Ctrl+Shift+D": lambda: self.logic.saveWork(),
                "Alt+Down": lambda: self.slices.step(1),
                "Alt+Up": lambda: self.slices.step(-1),
                "Alt+PgDown": lambda: self.series.step(1),
                "Alt+PgUp": lambda: self.series.step(-1),
            }
        )
        self._escape = EscapeFilter((self.ui.skipFrame, self.ui.skipButton), self.onSkipEscaped)
        self._connectSignals()
        self._restoreSettings()
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.initializeParameterNode()
        for what in ("server", "worklist", "drafts", "reading", "notice"):
            self.update(what)
        if getattr(self.parent, "isEntered", False):  # loaded anew while it is in front: Slicer does not enter it again
            self.enter()

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
        ui.saveButton.connect("clicked(bool)", lambda: self.logic.saveWork())
        ui.closeButton.connect("clicked(bool)", lambda: self.logic.closeStudy())
        ui.skipButton.connect("toggled(bool)", self.onSkipToggled)
        ui.confirmSkipButton.connect("clicked(bool)", self.onSkip)
        ui.skipBox.lineEdit().connect("returnPressed()", self.onSkip)
        ui.yesButton.connect("clicked(bool)", lambda: self.logic.answer(True, max(ui.choiceBox.currentIndex, 0)))
        ui.noButton.connect("clicked(bool)", lambda: self.logic.answer(False))
        ui.cancelButton.connect("clicked(bool)", lambda: self.logic.cancel())
        ui.loadButton.connect("clicked(bool)", lambda: self.logic.loadLabel(ui.labelBox.currentIndex))
        ui.compareButton.connect("clicked(bool)", lambda: self.logic.compareLabel(ui.labelBox.currentIndex))
        ui.exportButton.connect("clicked(bool)", self.onExport)
        ui.discardButton.connect("clicked(bool)", lambda: self.logic.discardKept(self.table.selectedStudy()))
        ui.strategyBox.connect("activated(int)", self.onStrategy)
        self.table.opened = self.logic.open
        self.table.selected = self.onSelected
        self.map.clicked = self.onMapClicked
        ui.unsureBox.connect("toggled(bool)", self.map.colorByUnsure)
        ui.skipBox.addItems([_("poor quality"), _("wrong anatomy"), _("duplicate"), _("cannot decide")])

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
        self.keys.take(slicer.util.mainWindow() or self.parent)
        self.logic.poll()

    def exit(self):
        """Give the keys back."""
        self.keys.giveBack()
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
            self._showStrategy()

    # -- what the reader does

    def onConnect(self, *_args):
        """Ask the server how it is."""
        self.logic.connect(self.ui.addressBox.currentText, self.ui.readerEdit.text)

    def onFilter(self, *_args):
        """Show other lines."""
        self.table.fill(*self._filter())

    def _filter(self):
        return FILTERS[max(self.ui.filterBox.currentIndex, 0)], self.ui.searchEdit.text

    def onStrategy(self, *_args):
        """Keep with the scene how the next batch shall be made."""
        if self._parameterNode is not None:
            self._parameterNode.strategy = self._chosenStrategy()

    def _chosenStrategy(self):
        box = self.ui.strategyBox
        return box.itemData(box.currentIndex) or ""

    def onNewBatch(self):
        """Make a new batch of the strategy and size chosen."""
        self.logic.newBatch(self._chosenStrategy(), self.ui.batchSizeBox.value)

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
        elif row.status == "done" and not row.isKept:
            self.logic.reopen(studyId)
        else:
            self.logic.open(studyId)

    def onExport(self):
        """Write kept work to a file of the reader's choice."""
        studyId = self.table.selectedStudy()
        name = self.logic.title(studyId).replace("/", "_") + ENDING
        path = qt.QFileDialog.getSaveFileName(slicer.util.mainWindow(), _("Export kept work"), name, f"*{ENDING}")
        path = path if isinstance(path, str) else path[0]  # PythonQt gives the path alone
        if path:
            self.logic.exportWork(studyId, path if path.endswith(ENDING) else path + ENDING)

    def onSkipToggled(self, isOn):
        """Show or hide the reasons."""
        self.ui.skipFrame.visible = isOn and self.ui.skipButton.enabled
        if isOn:
            self.ui.skipBox.setFocus()
            self.ui.skipBox.lineEdit().selectAll()

    def onSkipEscaped(self):
        """Leave the study as it is."""
        self.ui.skipButton.checked = False
        self.ui.submitButton.setFocus()

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
            "drafts": self.drafts.showDrafts,
            "reading": self._updateReading,
            "notice": self._updateNotice,
        }[what]()

    def _updateServer(self):
        logic, ui = self.logic, self.ui
        ui.serverLabel.text = wrappable(logic.connection)
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
            self._showStrategy()
        self._updateEnabled()

    def _showStrategy(self):
        """Show the strategy that the scene wants, else the server's."""
        names = [row["name"] for row in self.logic.strategies]
        wanted = self._parameterNode.strategy if self._parameterNode else ""
        name = wanted if wanted in names else self.logic.strategy
        if name in names:
            self.ui.strategyBox.currentIndex = names.index(name)

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
        ui.unsureBox.visible = logic.worklist is not None and logic.worklist.isUnsureKnown
        picks = logic.worklist.picks if logic.worklist else ()
        ui.batchProgress.maximum = max(len(picks), 1)
        ui.batchProgress.value = len(picks) - (logic.worklist.openPicks if logic.worklist else 0)
        ui.progressLabel.text = logic.worklist.progressText() if logic.worklist else ""
        ui.progressLabel.toolTip = logic.worklist.outlook if logic.worklist else ""
        lines = readersLines(logic.status["readers"], logic.client.reader) if logic.status else []
        more = [_("and {n} more").format(n=len(lines) - SHOWN)] if len(lines) > SHOWN else []
        ui.readersLabel.text = "\n".join([*lines[:SHOWN], *more])
        ui.readersLabel.visible = bool(lines)
        ui.readersLabel.toolTip = ui.batchProgress.toolTip = plainTooltip("\n".join([ui.progressLabel.text, *lines]))
        ui.allDoneFrame.visible = bool(logic.worklist) and logic.worklist.isAllDone
        self._updateReading()

    def _updateReading(self):
        logic, ui = self.logic, self.ui
        reading = logic.reading
        if self.editor.setNodes(reading):
            self.table.select(reading.studyId if reading else "")
        self._foldAround(reading)
        ui.readingSection.visible = reading is not None
        self.slices.show(reading.slices if reading else None)
        self.series.show(reading.sequences if reading else None)
        self.drafts.showReading(reading)
        if reading:
            row = logic.worklist.row(reading.studyId) if logic.worklist else None
            title = f"{row.rank}. {reading.title}" if row and row.rank else reading.title
            ui.studyLabel.text = wrappable(title)
            ui.studyLabel.toolTip = plainTooltip(reading.studyId)
            turn = turnText(row.readBy, logic.client.reader) if row else ""
            lines = [row.reason if row else "", turn and f"{turn[:1].upper()}{turn[1:]}."]
            ui.reasonLabel.text = wrappable("\n".join(filter(None, lines)))
            ui.reasonLabel.visible = bool(ui.reasonLabel.text)
            state = _("Not saved yet") if reading.isDirty else _("Draft, not checked") if reading.isDraft else ""
            ui.stateLabel.text = wrappable(reading.lost or state)
            ui.stateLabel.visible = bool(ui.stateLabel.text)
            ui.labelFrame.visible = bool(reading.listed)
            fillBox(ui.labelBox, [labelText(label) for label in reading.listed])
        self._updateEnabled()

    def _foldAround(self, reading):
        """Fold list and map when reading begins, and unfold them when it ends, by whatever; between, the reader may."""
        isFolded = reading is not None or (self._isFolded and self.logic.isBusy)
        if isFolded != self._isFolded:
            self._isFolded = isFolded
            for section in (self.ui.worklistSection, self.ui.draftsSection, self.ui.mapSection):
                section.collapsed = isFolded

    def _updateEnabled(self):
        logic, ui = self.logic, self.ui
        isFree = not logic.isBusy
        buttons = (ui.submitButton, ui.saveButton, ui.closeButton, ui.skipButton, ui.loadButton, ui.compareButton)
        for widget in (*buttons, ui.editorFrame):
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
        isKept = row is not None and row.isKept
        button.text = _("Open") if isKept and row.status == "done" else texts.get(row and row.status, _("Open"))
        self.ui.keptFrame.visible = isKept
        hasNext = bool(logic.worklist) and logic.worklist.nextOpen() is not None
        button.enabled = not logic.isBusy and (row is not None or hasNext)

    def _updateNotice(self):
        showNotice(self.ui, self.logic)
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
        with selftest.recordedServer(os.path.dirname(slicer.util.modulePath("FirstPick"))) as address:
            selftest.readOneStudy(self, FirstPickLogic(), address)
        self.delayDisplay("Test passed.")

    def test_realServer(self):
        """The same with a real server: labels one study for good."""
        address = os.environ.get("FIRSTPICK_SERVER")
        if address:
            selftest.readOneStudy(self, FirstPickLogic(), address)
            self.delayDisplay("Test passed.")
