"""What the module says and asks, and how far a transfer is, on the screen."""

from __future__ import annotations

from .worklist import wrappable


def fillBox(box, texts: list) -> None:
    """Fill a box anew only if that changes anything: it may be open."""
    if texts != [box.itemText(i) for i in range(box.count)]:
        box.clear()
        box.addItems(texts)


def showNotice(ui, logic) -> None:
    """Show the last message or the question that stands, and what is under way.

    Parameters
    ----------
    ui : object
        Has the widgets of ``noticeFrame``.
    logic : FirstPickLogic
    """
    ui.messageLabel.text = wrappable(logic.question.text if logic.question else logic.message)
    ui.questionFrame.visible = logic.question is not None
    if logic.question:
        ui.yesButton.text = logic.question.yes
        texts = [text for text, _action in logic.question.choices]
        ui.choiceBox.visible = len(texts) > 1
        fillBox(ui.choiceBox, texts)
        ui.choiceBox.currentIndex = 0
    ui.transferFrame.visible = logic.transfer is not None
    if logic.transfer:
        text, done, total = logic.transfer
        ui.transferLabel.text = wrappable(text)
        ui.transferBar.maximum = 100 if total else 0
        ui.transferBar.value = int(100 * done / total) if total else 0
    ui.noticeFrame.visible = bool(ui.messageLabel.text) or logic.transfer is not None
