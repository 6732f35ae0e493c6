"""The server's drafts on the screen: the open study's is offered, and how all of them stand is said and drawn."""

from __future__ import annotations

from slicer.i18n import tr as _

from . import preferences
from .curvewidget import CurveWidget
from .drawn import labelText
from .worklist import plainTooltip, wrappable

SHOWN = 3  # warnings in the panel; all are in its tooltip


class DraftPanel:
    """Shows the draft of the open study with a button, and a section with the curve while the server makes drafts.

    Parameters
    ----------
    ui : object
        Has the widgets of ``draftFrame`` and ``draftsSection``.
    logic : FirstPickLogic
    """

    def __init__(self, ui, logic) -> None:
        self._ui, self._logic = ui, logic
        self.curve = CurveWidget()
        ui.curveFrame.layout().addWidget(self.curve)
        ui.curveLabel.text = _(
            "Each dot a study that had a draft, the oldest on the left: how alike its draft and its label are (Dice). "
            "Hollow: nobody had looked at the draft."
        )
        ui.beginWithDraftBox.checked = bool(preferences.setting("beginWithDraft"))
        ui.beginWithDraftBox.connect("toggled(bool)", lambda isOn: preferences.keep("beginWithDraft", int(isOn)))
        ui.draftButton.connect("clicked(bool)", lambda: logic.startFromDraft())

    def showReading(self, reading) -> None:
        """Show the draft of the open study, if it has one that is offered or loaded."""
        ui, isFree = self._ui, not self._logic.isBusy
        isOffered = reading is not None and reading.isDraftOffered
        ui.draftFrame.visible = isOffered or (reading is not None and reading.isDraft)
        ui.draftLabel.visible = isOffered
        ui.draftButton.enabled = isOffered and isFree
        if reading is not None and reading.draft:
            ui.draftLabel.text = wrappable(labelText(reading.draft))

    def showDrafts(self) -> None:
        """Show how the drafts stand, if the server makes any."""
        ui, drafts = self._ui, self._logic.drafts
        ui.draftsSection.visible = drafts is not None
        if drafts is None:
            return
        ui.draftsLabel.text = wrappable(drafts["message"])
        ui.stopLabel.text = wrappable(drafts["stop"])
        ui.stopLabel.visible = bool(drafts["stop"])
        self.curve.setCorrections(drafts["corrections"])
        ui.curveFrame.visible = ui.curveLabel.visible = bool(drafts["corrections"])
        lines = [f"{one['title']}: {one['sentence']}" for one in drafts["warnings"]]
        more = [_("and {n} more").format(n=len(lines) - SHOWN)] if len(lines) > SHOWN else []
        ui.warningsLabel.text = wrappable("\n".join([*lines[:SHOWN], *more]))
        ui.warningsLabel.toolTip = plainTooltip("\n".join(lines))
        ui.warningsLabel.visible = bool(lines)
