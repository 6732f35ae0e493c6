"""What a reader can set in Slicer's *Application Settings*."""

from __future__ import annotations

import ctk
import qt
import slicer
from slicer.i18n import tr as _

DEFAULTS = {"autosaveSeconds": 30, "idleMinutes": 5, "beginWithDraft": 0}


def setting(name: str) -> int:
    """What is set, or the default."""
    return slicer.util.settingsValue(f"FirstPick/{name}", DEFAULTS[name], converter=int)


def keep(name: str, value: int) -> None:
    """Remember what the reader set."""
    qt.QSettings().setValue(f"FirstPick/{name}", value)


def addSettingsPanel() -> None:
    """Add FirstPick's page to Slicer's settings, where there is a window for them."""
    if slicer.app.commandOptions().noMainWindow:
        return
    panel = ctk.ctkSettingsPanel()
    form = qt.QFormLayout(panel)
    for name, label, tip, unit, most in (
        (
            "autosaveSeconds",
            _("Save what is drawn every"),
            _("How often what was drawn is saved on this computer while a study is open."),
            _(" s"),
            600,
        ),
        (
            "idleMinutes",
            _("Count no pause longer than"),
            _("The time that a study took is sent with its label; a longer pause without any input is left out."),
            _(" min"),
            120,
        ),
    ):
        box = qt.QSpinBox()
        box.setRange(1, most)
        box.setSuffix(unit)
        box.setValue(DEFAULTS[name])
        box.setToolTip(tip)
        box.setAccessibleName(label)
        form.addRow(label, box)
        panel.registerProperty(f"FirstPick/{name}", box, "value", str(qt.SIGNAL("valueChanged(int)")))
    slicer.app.settingsDialog().addPanel("FirstPick", panel)
