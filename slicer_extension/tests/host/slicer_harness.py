"""CI host: real MRML/segmentation logic (slicer-core wheel) + real Qt (PySide6) behind PythonQt conventions.
Own stand-ins only for what needs Slicer's C++ application: slicer.app, qMRML widgets, ScriptedLoadableModule,
parameterNodeWrapper, i18n."""

import os
import sys
import tempfile
import types
import typing

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
from PySide6 import QtCore, QtWidgets

app = QtWidgets.QApplication.instance() or QtWidgets.QApplication([])
font = app.font()
font.setPointSize(12)  # what Qt 5.15 takes where no desktop says otherwise; Slicer's own is as large on many systems
app.setFont(font)
import ctk
import pictures
import qt
import slicer
import vtk

if sys.version_info < (3, 12):  # PySide6 6.12 gives back references to None that it never took; 3.12's None is immortal
    import ctypes

    for _ in range(1_000_000):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(None))

# --- scene and logics
slicer.mrmlScene = slicer.vtkMRMLScene()
slicer.mrmlScene.SetCacheManager(slicer.vtkCacheManager())
appLogic = slicer.vtkSlicerApplicationLogic()
appLogic.SetMRMLScene(slicer.mrmlScene)
slicer.modules = types.SimpleNamespace()


class Module:
    def __init__(self, name, logic=None, path=""):
        self.name, self._l, self.path = name, logic, path
        self.widget = None

    def widgetRepresentation(self):
        return self.widget

    def logic(self):
        return self._l


for cls, name in (
    ("vtkMRMLColorLogic", "Colors"),
    ("vtkSlicerVolumesLogic", "Volumes"),
    ("vtkSlicerSegmentationsModuleLogic", "Segmentations"),
    ("vtkSlicerSubjectHierarchyModuleLogic", "SubjectHierarchy"),
):
    l = getattr(slicer, cls)()
    l.SetMRMLApplicationLogic(appLogic)
    l.SetMRMLScene(slicer.mrmlScene)
    appLogic.SetModuleLogic(name, l)
    setattr(slicer.modules, name.lower(), Module(name, l))
slicer.modules.colors.logic().AddDefaultColorNodes()

# --- the slice views of Slicer's layouts, which outlive the closing of a scene
slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(slicer.mrmlScene)
for view, orientation in (("Red", "Axial"), ("Green", "Coronal"), ("Yellow", "Sagittal")):
    for kind in ("vtkMRMLSliceNode", "vtkMRMLSliceCompositeNode"):
        node = slicer.mrmlScene.CreateNodeByClass(kind)
        node.UnRegister(None)
        node.SetName(view)
        node.SetSingletonTag(view)
        node.SetLayoutName(view)
        slicer.mrmlScene.AddNode(node)
        if kind == "vtkMRMLSliceNode":
            node.SetDefaultOrientation(orientation)
            node.SetOrientation(orientation)


# --- the subject hierarchy: an item goes with its node, as Slicer's plugin logic has it
@vtk.calldata_type(vtk.VTK_OBJECT)
def _forgetItem(scene, event, node):
    hierarchy = scene.GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode")  # makes none
    if hierarchy is not None:
        item = hierarchy.GetItemByDataNode(node)
        if item:
            hierarchy.RemoveItem(item, False, False)


slicer.mrmlScene.AddObserver(slicer.vtkMRMLScene.NodeRemovedEvent, _forgetItem)


# --- slicer.app
class Bus:
    def __init__(self):
        self.h = {}

    def connect(self, s, f):
        self.h.setdefault(s, []).append(f)
        return True

    def disconnect(self, s, f):
        if f not in self.h.get(s, []):
            return False
        self.h[s].remove(f)
        return True

    def fire(self, s, *a):
        for f in list(self.h.get(s, [])):
            f(*a)


class IO:
    def fileType(self, fn):
        return "VolumeFile"

    def fileWriterFileType(self, n):
        return "x"

    def loadNodes(self, ft, props, coll, msg=None):
        fn = props["fileName"]
        name = props.get("name") or os.path.basename(fn).split(".")[0]
        if fn.lower().endswith(pictures.ENDINGS):
            n = pictures.read_picture(fn, name)
        else:  # turns left-handed grids, as Slicer does
            n = slicer.modules.volumes.logic().AddArchetypeVolume(fn, name, 1 if props.get("labelmap") else 0)
        if n:
            coll.AddItem(n)
        elif msg:
            msg.AddMessage(vtk.vtkCommand.ErrorEvent, f"cannot read {fn}")
        return bool(n)

    def saveNodes(self, ft, props, msg=None):
        n = slicer.mrmlScene.GetNodeByID(props["nodeID"])
        if not n.GetStorageNode():
            n.AddDefaultStorageNode()
        n.GetStorageNode().SetFileName(props["fileName"])
        return bool(n.GetStorageNode().WriteData(n))


class SettingsDialog:
    """Slicer's *Application Settings*: gives its panels the settings that they read and write."""

    def __init__(self):
        self.panels = {}

    def addPanel(self, label, panel):
        self.panels[label] = panel
        panel.setSettings(qt.QSettings())


class App(Bus):
    applicationName = "Slicer"
    majorVersion = 5
    minorVersion = 12
    temporaryPath = tempfile.gettempdir()
    slicerUserSettingsFilePath = os.path.join(temporaryPath, "Slicer.ini")

    def __init__(self):
        super().__init__()
        self._mm = Bus()
        self._io = IO()
        self._dialog = SettingsDialog()
        self.hasNoMainWindow = True

    def testingEnabled(self):
        return True

    def moduleManager(self):
        return self._mm

    def coreIOManager(self):
        return self._io

    def processEvents(self):
        app.processEvents()

    def layoutManager(self):
        return None

    def mrmlScene(self):
        return slicer.mrmlScene

    def userSettings(self):
        return qt.QSettings()

    settings = userSettings

    def setOverrideCursor(self, c):
        app.setOverrideCursor(c)

    def restoreOverrideCursor(self):
        app.restoreOverrideCursor()

    def commandOptions(self):
        return types.SimpleNamespace(noMainWindow=self.hasNoMainWindow)

    def settingsDialog(self):
        return self._dialog

    def translate(self, context, text):
        """As if the application spoke English: nothing is translated."""
        return text


slicer.app = App()
slicer.util.mainWindow = lambda: None


# --- qMRML stand-ins + loadUI
class qMRMLWidget(QtWidgets.QWidget):
    mrmlSceneChanged = QtCore.Signal(object)

    def setMRMLScene(self, s):
        self._scene = s

    def mrmlScene(self):
        return getattr(self, "_scene", None)


slicer.qMRMLWidget = qMRMLWidget


class ModuleWidget(QtWidgets.QWidget):
    """What Slicer hands to a module as its parent."""

    isEntered = False

    def reload(self):
        """Make the module's widget anew, as Slicer does once it has loaded the source again: it is not entered again."""
        slicer.modules.FirstPickWidget = sys.modules["FirstPick"].FirstPickWidget(self)
        slicer.modules.FirstPickWidget.setup()


class qMRMLSegmentEditorWidget(qMRMLWidget):
    """Only what the module calls; remembers what it edits and whether it has the keys."""

    def __init__(self):
        super().__init__()
        self.edits = (None, None)
        self.editorNode = None
        self._keys = []
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        box = QtWidgets.QLabel("(Slicer's Segment Editor)")
        box.setAlignment(QtCore.Qt.AlignmentFlag.AlignCenter)
        box.setFrameShape(QtWidgets.QFrame.Shape.StyledPanel)
        box.setMinimumHeight(120)
        layout.addWidget(box)

    def setMaximumNumberOfUndoStates(self, n):
        pass

    def setMRMLSegmentEditorNode(self, node):
        self.editorNode = node

    def setSegmentationNodeSelectorVisible(self, on):
        pass

    def setSourceVolumeNodeSelectorVisible(self, on):
        pass

    def setActiveEffect(self, effect):
        pass

    def setSegmentationNode(self, node):
        self.edits = (node, self.edits[1])

    def setSourceVolumeNode(self, node):
        self.edits = (self.edits[0], node)

    def removeViewObservations(self):
        pass

    @property
    def hasKeys(self):
        return bool(self._keys)

    def installKeyboardShortcuts(self):
        """Slicer's editor has more of them; all belong to the window."""
        for keys in ("Escape", "Space", "Ctrl+Z", "Ctrl+Y"):
            shortcut = qt.QShortcut(self.window())
            shortcut.setKey(qt.QKeySequence(keys))
            self._keys.append(shortcut)

    def uninstallKeyboardShortcuts(self):
        for shortcut in self._keys:
            shortcut.setParent(None)
        self._keys = []

    def updateWidgetFromMRML(self):
        pass


slicer.qMRMLSegmentEditorWidget = qMRMLSegmentEditorWidget
CUSTOM = [qMRMLWidget] + ctk.WIDGETS


def loadUI(path):
    from PySide6.QtUiTools import QUiLoader

    if not os.path.exists(path):
        raise RuntimeError(f"Could not load UI file: file not found {path}")
    loader = QUiLoader()
    [loader.registerCustomWidget(c) for c in CUSTOM]
    return loader.load(str(path), None)


def childWidgetVariables(w):
    ui = type("", (), {})()
    for c in w.findChildren(QtCore.QObject):
        if c.objectName:
            setattr(ui, c.objectName, c)
    return ui


slicer.util.loadUI, slicer.util.childWidgetVariables = loadUI, childWidgetVariables
slicer.util.modulePath = lambda n: getattr(slicer.modules, n.lower()).path


def _mod(name, **kw):
    m = types.ModuleType(name)
    m.__dict__.update(kw)
    sys.modules[name] = m
    setattr(slicer, name.split(".")[1], m)
    return m


def tr(text):
    """Slicer's: the context is the file that says the text."""
    return slicer.app.translate(sys._getframe(1).f_globals["__name__"], text)


_mod("slicer.i18n", tr=tr, translate=lambda context, text: slicer.app.translate(context, text))

# --- minimal ScriptedLoadableModule family
import unittest


class ScriptedLoadableModule:
    def __init__(self, parent):
        self.parent = parent
        self.moduleName = type(self).__name__

    def resourcePath(self, f):
        return os.path.join(os.path.dirname(self.parent.path), "Resources", f)


class ScriptedLoadableModuleWidget:
    def __init__(self, parent=None):
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.parent = parent
        self.layout = parent.layout()
        self.developerMode = False

    def resourcePath(self, f):
        return os.path.join(os.path.dirname(slicer.util.modulePath(self.moduleName)), "Resources", f)

    def setup(self):
        pass

    def cleanup(self):
        pass

    def onReload(self):
        slicer.util.reloadScriptedModule(self.moduleName)


class ScriptedLoadableModuleLogic:
    def __init__(self, parent=None):
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self):
        n = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if not n:
            n = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
            n.UnRegister(None)
            n.SetSingletonTag(self.moduleName)
            n.SetAttribute("ModuleName", self.moduleName)
            n = slicer.mrmlScene.AddNode(n)
        return n


class ScriptedLoadableModuleTest(unittest.TestCase):
    def delayDisplay(self, msg, *a, **k):
        print(msg)


_mod(
    "slicer.ScriptedLoadableModule",
    ScriptedLoadableModule=ScriptedLoadableModule,
    ScriptedLoadableModuleWidget=ScriptedLoadableModuleWidget,
    ScriptedLoadableModuleLogic=ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest=ScriptedLoadableModuleTest,
)

# --- minimal parameterNodeWrapper: values live in the real MRML node
import json


class WithinRange:
    def __init__(self, a, b):
        self.a, self.b = a, b

    def check(self, v):
        if not self.a <= v <= self.b:
            raise ValueError(f"Value must be within range [{self.a}, {self.b}], is {v}")


_BIND = {
    "QLineEdit": ("text", "textChanged(QString)"),
    "QSpinBox": ("value", "valueChanged(int)"),
    "QDoubleSpinBox": ("value", "valueChanged(double)"),
    "QCheckBox": ("checked", "toggled(bool)"),
    "QComboBox": ("currentText", "currentTextChanged(QString)"),
    "QLabel": ("text", None),
}


def parameterNodeWrapper(cls):
    hints = typing.get_type_hints(cls, include_extras=True)

    def make(name, hint):
        validators = [v for v in getattr(hint, "__metadata__", ()) if hasattr(v, "check")]
        default = getattr(cls, name, None)
        base = typing.get_args(hint)[0] if validators or hasattr(hint, "__metadata__") else hint
        isnode = isinstance(base, type) and issubclass(base, slicer.vtkMRMLNode)

        def get(self):
            if isnode:
                return self.parameterNode.GetNodeReference(name)
            s = self.parameterNode.GetParameter(name)
            return json.loads(s) if s else default

        def set_(self, v):
            if isnode:
                self.parameterNode.SetNodeReferenceID(name, v.GetID() if v else None)
                return
            [c.check(v) for c in validators]
            self.parameterNode.SetParameter(name, json.dumps(v))

        return property(get, set_)

    ns = {n: make(n, h) for n, h in hints.items()}

    class Wrapper:
        def __init__(self, node):
            object.__setattr__(self, "parameterNode", node)
            object.__setattr__(self, "_tags", {})

        def __setattr__(self, n, v):
            if n not in ns:
                raise AttributeError(n)
            object.__setattr__(self, n, v)

        def AddObserver(self, ev, f):
            return self.parameterNode.AddObserver(ev, f)

        def RemoveObserver(self, t):
            self.parameterNode.RemoveObserver(t)

        def connectGui(self, ui):
            todo = []
            for w in vars(ui).values():
                p = w.property("SlicerParameterName") if hasattr(w, "property") else None
                if p:
                    todo.append((w, p))

            def pull(*a):
                for w, p in todo:
                    attr = _BIND[w.className()][0]
                    if getattr(w, attr) != getattr(self, p):
                        setattr(w, attr, getattr(self, p))

            bound = []
            for w, p in todo:
                attr, sig = _BIND[w.className()]
                if sig:
                    bound.append((w, sig, lambda v, p=p: setattr(self, p, v)))
                    w.connect(*bound[-1][1:])
            pull()
            t = self.parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, pull)
            self._tags[t] = bound
            return t

        def disconnectGui(self, tag):
            self.parameterNode.RemoveObserver(tag)
            for w, sig, f in self._tags.pop(tag):
                w.disconnect(sig, f)

    for n, p in ns.items():
        setattr(Wrapper, n, p)
    Wrapper.__name__ = cls.__name__
    return Wrapper


_mod("slicer.parameterNodeWrapper", parameterNodeWrapper=parameterNodeWrapper, WithinRange=WithinRange)
