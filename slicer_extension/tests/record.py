"""Records the real server's answers for RecordedServer.py: ``python record.py`` in the tests' environment.

`test_contract.py` holds the recorded answers to those of the real server.
"""

import base64
import json
import tempfile
import urllib.request
from pathlib import Path
from urllib.parse import quote

from servers import Server, sequences_server, write_studies

RECORDED = Path(__file__).parents[1] / "FirstPick" / "Testing" / "Python" / "recorded.json"
LABELS = '[{name: tumour, value: 5, color: "#ff0080"}, {name: organ, value: 2, color: "#00ff00"}]'


def record(server):
    """Ask for everything that the module asks for."""
    points = server.get("/firstpick/map")
    ids = [point["study_id"] for point in points["points"]]

    def fetch(path):
        with urllib.request.urlopen(server.address + path, timeout=30) as answer:
            return base64.b64encode(answer.read()).decode()

    infos = {i: server.get("/datastore/image/info", image=i) for i in ids}
    for info in infos.values():
        info["path"] = f"/on/the/server/{Path(info['path']).name}"
    answers = {
        "status": server.get("/firstpick/status"),
        "strategies": server.get("/firstpick/strategies"),
        "proposal": server.get("/firstpick/proposal"),
        "map": points,
        "infos": infos,
        "series": {i: server.get(f"/firstpick/series/{quote(i)}") for i in ids},
        "thumbnails": {i: fetch(f"/firstpick/thumbnail/{quote(i)}") for i in ids},
        "images": {i: fetch(f"/datastore/image?image={quote(i)}") for i in ids},
    }
    several = {i: [one["name"] for one in listed] for i, listed in answers["series"].items() if len(listed) > 1}
    for i, name in [(i, name) for i, names in several.items() for name in names]:
        answers["thumbnails"][f"{i}/{name}"] = fetch(f"/firstpick/thumbnail/{quote(i)}?series={quote(name)}")
        answers["images"][f"{i}/{name}"] = fetch(f"/firstpick/image/{quote(i)}/{quote(name)}")
    return answers


def studies_server(folder):
    """Serve six studies."""
    return Server(write_studies(folder / "studies", 6, size=12), folder / "state", labels=LABELS, batch_size="3")


def record_sequences(folder):
    """Record three patients with several series each; strategies are the same there."""
    with sequences_server(folder, labels=LABELS) as server:
        server.wait_until_ready()
        answers = record(server)
    del answers["strategies"]
    return answers


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with studies_server(folder) as server:
            server.wait_until_ready()
            answers = record(server)
        answers["sequences"] = record_sequences(folder / "several")
        RECORDED.write_text(json.dumps(answers, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
