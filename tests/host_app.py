"""Another MONAI Label app with FirstPick inside, as a started server; its ``main.py`` is changed as the README says."""

import re
import sys
from pathlib import Path

from server_process import Server, wait_for

README = Path(__file__).parents[1] / "monailabel_app" / "README.md"


def changed(code):
    """A ``main.py`` with the lines of the README's diff: each is put before the line that it stands before there."""
    text = README.read_text(encoding="utf-8")
    diff = re.search(r"```diff\n(.*?)```", text, re.DOTALL)[1].splitlines()
    lines = code.splitlines()
    added = [number for number, line in enumerate(diff) if line.startswith("+") and not line.startswith("+++")]
    assert 0 < len(added) <= 5
    for number in added:
        below = next(line for line in diff[number + 1 :] if line.startswith(" "))
        assert lines.count(below[1:]) == 1, f"{below!r} is not once in the app"
        lines.insert(lines.index(below[1:]), diff[number][1:])
    return "\n".join(lines) + "\n"


class Host(Server):
    """A started server of that app; keys of FirstPick are given as in its own."""

    def __init__(self, app, studies, state, *conf, of_host=(), python=sys.executable):
        command = [python, "-m", "monailabel.main", "start_server", "--app", str(app), "--host", "127.0.0.1"]
        for key, value in zip(of_host[::2], of_host[1::2], strict=True):
            command += ["--conf", key, value]
        super().__init__(studies, state, "state_dir", str(state), *conf, command=command, prefix="firstpick.")

    def wait_until_ready(self, state="ready"):
        wait_for(self.answers, 180, "all that the app imports")
        return super().wait_until_ready(state)
