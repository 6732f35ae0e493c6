"""The two themes that Slicer has on most systems."""

import qt


def palette(isDark):
    """Fusion's own palettes: what Slicer shows on most systems."""
    one = qt.QPalette()
    if isDark:
        for role, color in (
            (qt.QPalette.Window, "#353535"),
            (qt.QPalette.WindowText, "#ffffff"),
            (qt.QPalette.Base, "#232323"),
            (qt.QPalette.AlternateBase, "#2c2c2c"),
            (qt.QPalette.ToolTipBase, "#232323"),
            (qt.QPalette.ToolTipText, "#ffffff"),
            (qt.QPalette.Text, "#ffffff"),
            (qt.QPalette.Button, "#404040"),
            (qt.QPalette.ButtonText, "#ffffff"),
            (qt.QPalette.PlaceholderText, "#909090"),
            (qt.QPalette.Highlight, "#2a82da"),
            (qt.QPalette.HighlightedText, "#ffffff"),
        ):
            one.setColor(role, qt.QColor(color))
        for role in (qt.QPalette.WindowText, qt.QPalette.Text, qt.QPalette.ButtonText):
            one.setColor(qt.QPalette.Disabled, role, qt.QColor("#7a7a7a"))
    else:
        one = qt.QApplication.style().standardPalette()
    return one
