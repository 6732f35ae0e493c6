"""The module's keys: none that Slicer's menus, Segment Editor, Markups or Sequence Browser have."""

from __future__ import annotations

import qt


class Keys:
    """Keys that do what buttons do, while the module is in front.

    Parameters
    ----------
    slots : dict
        What each key does; a key of the main block stands for its twin on the number pad, too.
    """

    def __init__(self, slots: dict) -> None:
        self._slots = slots
        self._shortcuts = []

    @property
    def held(self) -> list:
        """The keys that the module has now."""
        return [shortcut.key.toString() for shortcut in self._shortcuts]

    def take(self, window) -> None:
        """Take the keys, unless they are taken already."""
        if self._shortcuts:
            return
        for keys, slot in self._slots.items():
            for each in {keys, keys.replace("Return", "Enter")}:
                shortcut = qt.QShortcut(window)
                shortcut.setKey(qt.QKeySequence(each))
                shortcut.connect("activated()", slot)
                self._shortcuts.append(shortcut)

    def giveBack(self) -> None:
        """Give the keys back."""
        for shortcut in self._shortcuts:
            shortcut.setParent(None)
            shortcut.deleteLater()
        self._shortcuts = []


class EscapeFilter(qt.QObject):
    """Lets Escape put a part of the panel away while it has the focus, before Slicer's own Escape hears of it."""

    def __init__(self, widgets, escaped) -> None:
        qt.QObject.__init__(self)
        self._escaped = escaped
        for widget in widgets:
            widget.installEventFilter(self)

    def eventFilter(self, _widget, event):
        """Take Escape, and nothing else."""
        isKey = event.type() in (qt.QEvent.ShortcutOverride, qt.QEvent.KeyPress)
        if not isKey or event.key() != qt.Qt.Key_Escape:
            return False
        event.accept()
        if event.type() == qt.QEvent.KeyPress:
            self._escaped()
        return True
