"""What every route answers, as recorded in ``golden/routes.json``, from the real server over a small folder.

Recorded anew with ``FIRSTPICK_GOLDEN=write``, never else.
"""

import gzip
import hashlib
import io
import json
import re
from collections import Counter

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("monailabel", reason="pip install 'firstpick[server]'")
requests = pytest.importorskip("requests", reason="pip install 'firstpick[server]'")

from conftest import Phantom  # noqa: E402 - needs requests
from golden_files import compare, plain, write_volumes  # noqa: E402
from server_process import Server, wait_for  # noqa: E402

pytestmark = pytest.mark.slow

PASSING = {"ts", "rate", "seconds_left", "stamp", "size", "pool_hash"}
"""Keys whose values are another at every run."""

FORM = {"params": '{"client_id": "dora", "label_info": []}'}
MASK = np.pad(np.ones((3, 4, 5), np.uint8), ((0, 17), (0, 16), (0, 15)))
LABEL = {"label": ("label.nii.gz", gzip.compress(nib.Nifti1Image(MASK, np.eye(4)).to_bytes(), mtime=0))}


def picture(name):
    return f"/firstpick/thumbnail/{name}"


def save(study_id, tag="final", **other):
    """What 3D Slicer sends with a label."""
    return {"params": {"image": study_id, "tag": tag}, "data": FORM, "files": LABEL, **other}


def body(**values):
    return {"json": values}


def asked(**values):
    return {"params": values}


STORY = [
    ("GET", "/info/", {}),
    ("GET", "/datastore/", {}),
    ("GET", "/datastore/", asked(output="all")),
    ("GET", "/datastore/", asked(output="train")),
    ("GET", "/datastore/image/info", asked(image="study_03.nii.gz")),
    ("GET", "/datastore/image/info", asked(image="1.2.3-5e253a")),
    ("GET", "/datastore/image/info", asked(image="nobody")),
    ("GET", "/datastore/image", asked(image="study_03.nii.gz")),
    ("GET", "/datastore/image", asked(image="1.2.3-5e253a")),
    ("GET", "/datastore/image", asked(image="nobody")),
    ("HEAD", "/datastore/image", asked(image="study_03.nii.gz")),
    ("GET", "/firstpick/status", {}),
    ("GET", "/firstpick/proposal", {}),
    ("GET", "/firstpick/proposal", asked(strategy="random")),
    ("GET", "/firstpick/proposal", asked(strategy="kmeens")),
    ("GET", "/firstpick/strategies", {}),
    ("GET", "/firstpick/encoders", {}),
    ("GET", "/firstpick/map", {}),
    ("GET", "/firstpick/map", asked(strategy="random")),
    ("GET", "/firstpick/map", asked(strategy="kmeens")),
    ("GET", picture("study_03.nii.gz"), {}),
    ("GET", picture("nobody"), {}),
    ("GET", "/firstpick/lookalikes/study_03.nii.gz", {}),
    ("GET", "/firstpick/lookalikes/nobody", {}),
    ("GET", "/firstpick/notes/study_03.nii.gz", {}),
    ("GET", "/firstpick/notes/nobody", {}),
    ("GET", "/firstpick/lists/failed", {}),
    ("GET", "/firstpick/lists/left_out", asked(limit=1, offset=1)),
    ("GET", "/firstpick/lists/noted", {}),
    ("GET", "/firstpick/lists/noted", asked(limit=0)),
    ("GET", "/firstpick/lists/nobody", {}),
    ("GET", "/firstpick/series/study_03.nii.gz", {}),
    ("GET", "/firstpick/series/1.2.3-5e253a", {}),
    ("GET", "/firstpick/series/nobody", {}),
    ("GET", "/firstpick/image/study_03.nii.gz/study_03", {}),
    ("GET", "/firstpick/image/study_03.nii.gz/t1", {}),
    ("GET", "/firstpick/image/nobody/t1", {}),
    ("HEAD", "/firstpick/image/study_03.nii.gz/study_03", {}),
    ("GET", "/firstpick/", {}),
    ("GET", "/firstpick/page/nonsense.js", {}),
    ("GET", "/firstpick/nonsense", {}),
    ("POST", "/firstpick/proposal", body(batch_size=4, seed=1)),
    ("POST", "/firstpick/proposal", body(strategy="kcenter", batch_size=3, advice=True, client_id="alice")),
    ("POST", "/firstpick/proposal", {}),
    ("POST", "/firstpick/proposal", body(batch_size=0)),
    ("POST", "/firstpick/proposal", body(batch_size="many")),
    ("POST", "/firstpick/proposal", body(seed=-1)),
    ("POST", "/firstpick/proposal", body(strategy="kmeens")),
    ("POST", "/firstpick/proposal", {"data": "no JSON", "headers": {"Content-Type": "application/json"}}),
    ("POST", "/activelearning/firstpick", body(client_id="alice")),
    ("POST", "/activelearning/firstpick", body(client_id="bob")),
    ("POST", "/activelearning/random", body(client_id="carol")),
    ("POST", "/activelearning/kmeens", body(client_id="alice")),
    ("POST", "/activelearning/firstpick", body(strategy="kmeens")),
    ("POST", "/activelearning/firstpick", {"data": "no JSON", "headers": {"Content-Type": "application/json"}}),
    ("POST", "/firstpick/reserve", body(study_id="study_05.nii.gz", client_id="dora")),
    ("POST", "/firstpick/reserve", body(study_id="study_05.nii.gz", client_id="eve")),
    ("POST", "/firstpick/reserve", body(study_id="nobody", client_id="dora")),
    ("POST", "/firstpick/reserve", body(client_id="dora")),
    ("POST", "/firstpick/heartbeat", body(study_id="study_05.nii.gz", client_id="dora")),
    ("POST", "/firstpick/heartbeat", body(study_id="study_05.nii.gz", client_id="eve")),
    ("POST", "/firstpick/release", body(study_id="study_05.nii.gz", client_id="eve")),
    ("POST", "/firstpick/release", body(study_id="study_05.nii.gz", client_id="dora")),
    ("POST", "/firstpick/skip", body(study_id="study_06.nii.gz", client_id="dora", reason="metal")),
    ("POST", "/firstpick/skip", body(study_id="study_06.nii.gz", client_id="dora")),
    ("POST", "/firstpick/skip", body(study_id="nobody", client_id="dora", reason="metal")),
    ("GET", "/firstpick/proposal", {}),
    ("POST", "/firstpick/unskip", body(study_id="study_06.nii.gz", client_id="dora")),
    ("POST", "/firstpick/unskip", body(study_id="study_06.nii.gz", client_id="dora")),
    ("PUT", "/datastore/label", save("study_05.nii.gz")),
    ("PUT", "/datastore/label", save("study_05.nii.gz", tag="draft")),
    ("PUT", "/datastore/label", save("nobody")),
    ("PUT", "/datastore/label", save("study_05.nii.gz", tag="../evil")),
    ("PUT", "/datastore/label", save("study_05.nii.gz", data={"params": "{no JSON"})),
    ("PUT", "/datastore/label", asked(image="study_05.nii.gz")),
    ("PUT", "/datastore/label/info", asked(label="study_05.nii.gz", tag="final", info="{no JSON")),
    ("GET", "/datastore/label", asked(label="study_05.nii.gz", tag="final")),
    ("GET", "/datastore/label", asked(label="study_07.nii.gz", tag="final")),
    ("GET", "/datastore/label/info", asked(label="study_05.nii.gz", tag="final")),
    ("GET", "/firstpick/labels/study_05.nii.gz", asked(client_id="dora")),
    ("GET", "/firstpick/labels/nobody", {}),
    ("GET", "/firstpick/label/study_05.nii.gz", asked(tag="final", client_id="dora")),
    ("GET", "/firstpick/label/study_05.nii.gz", asked(tag="../final")),
    ("GET", "/firstpick/label/study_05.nii.gz", asked(tag="final", version=7)),
    ("GET", "/firstpick/label/study_05.nii.gz", asked(tag="final", version=-1)),
    ("GET", "/firstpick/label/study_05.nii.gz", {}),
    ("GET", "/datastore/", {}),
    ("GET", "/datastore/", asked(output="train")),
    ("GET", "/firstpick/status", {}),
    ("GET", "/firstpick/map", {}),
    ("GET", "/info/", {}),
    ("POST", "/firstpick/heartbeat", body(study_id="study_05.nii.gz", client_id="alice")),
    ("POST", "/firstpick/reopen", body(study_id="study_05.nii.gz", client_id="dora")),
    ("POST", "/firstpick/reopen", body(study_id="study_07.nii.gz", client_id="dora")),
    ("DELETE", "/datastore/label", asked(id="study_05.nii.gz", tag="draft")),
    ("DELETE", "/datastore/label", asked(id="study_07.nii.gz", tag="final")),
    ("DELETE", "/datastore/image", asked(id="study_05.nii.gz")),
    ("PUT", "/datastore/", {"params": {"image": "new"}, "files": {"file": ("new.nii.gz", b"an image")}}),
    ("GET", "/openapi.json", {}),
]


EMPTY = [
    ("GET", "/info/", {}),
    ("GET", "/datastore/", asked(output="all")),
    ("GET", "/firstpick/status", {}),
    ("GET", "/firstpick/proposal", {}),
    ("POST", "/firstpick/proposal", body(batch_size=4)),
    ("GET", "/firstpick/map", {}),
    ("GET", picture("study_03.nii.gz"), {}),
    ("GET", "/firstpick/lookalikes/study_03.nii.gz", {}),
    ("POST", "/activelearning/firstpick", body(client_id="alice")),
    ("POST", "/firstpick/reserve", body(study_id="study_03.nii.gz", client_id="alice")),
]


def names(steps, server=""):
    """A name for every step: what is asked; what is asked more often is counted."""
    asked_before = Counter()
    for method, path, sent in steps:
        name = f"{server}{method} {path} {sent_text(sent)}".strip()
        asked_before[name] += 1
        yield name if asked_before[name] == 1 else f"{name}, {asked_before[name]}"


def told(server, steps, folder, prefix=""):
    """Every answer, asked for in the order of the steps."""
    return {
        name: shown(wait_for(lambda step=step: said(server, *step), 30), folder, path=step[1])
        for name, step in zip(names(steps, prefix), steps, strict=True)
    }


def said(server, method, path, sent):
    """The answer, in a list; nothing yet while a file is being prepared."""
    answer = requests.request(method, f"http://127.0.0.1:{server.port}{path}", timeout=30, **sent)
    return [answer] if "being prepared" not in answer.text[:300] else []


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What a server over a few studies says, and one over none."""
    folder = tmp_path_factory.mktemp("routes")
    studies = write_volumes(folder / "studies", 10)
    Phantom(studies).series("series")
    (studies / "broken.nii").touch()
    (folder / "nothing").mkdir()
    found = {}
    with Server(studies, folder / "state", "batch_size", "5", "rescan_s", "3600") as server:
        server.wait_until_ready()
        found |= told(server, STORY, folder)
        first = next(line for line in server.log.read_text().splitlines() if line.startswith("http://"))
        found["serve"] = plain(first, folder)
    with Server(folder / "nothing", folder / "no-state") as server:
        server.wait_until_ready("empty")
        found |= told(server, EMPTY, folder, "of none: ")
    return found


def sent_text(sent):
    """What is sent, in short; the bytes of files are always the same."""
    parts = [f"{key}={value}" for key in ("params", "json", "data") for value in [sent.get(key)] if value]
    return " ".join(parts)


def shown(answers, folder, *, path):
    """Status, kind and JSON of an answer; of files what they hold, of pages whether they are there."""
    (answer,) = answers
    kind = answer.headers.get("content-type", "")
    found = {"status": answer.status_code, "type": kind, "is_empty": not answer.content}
    if kind.startswith("application/json") and answer.content:
        found["json"] = steady(json.loads(plain(answer.text, folder)))
        if path == "/openapi.json":
            found["json"] = ours(found["json"])
    elif kind == "image/png":
        with Image.open(io.BytesIO(answer.content)) as picture:
            found["picture"] = [picture.mode, *picture.size]
    elif answer.content.startswith(b"\x1f\x8b"):
        found["volume"] = volume(answer.content)
    return found


def volume(content):
    """Shape, place and voxels of a NIfTI file."""
    image = nib.Nifti1Image.from_bytes(gzip.decompress(content))
    voxels = np.asanyarray(image.dataobj)
    return {
        "shape": list(image.shape),
        "affine": [" ".join(f"{x + 0.0:.5g}" for x in row) for row in image.affine],
        "dtype": str(voxels.dtype),
        "sum": float(voxels.sum(dtype=float)),
        "sha256": hashlib.sha256(np.ascontiguousarray(voxels).tobytes()).hexdigest(),
    }


def steady(value, key=""):
    """A value without what is another at every run."""
    if isinstance(value, dict):
        return {name: steady(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [steady(inner) for inner in value]
    if key in PASSING or (key == "until" and value):
        return f"<{key}>"
    if isinstance(value, str):
        value = re.sub(r"/served/\w+/\w+/", "/served/<stamp>/", value)
        value = re.sub(r"\b[0-9a-f]{8}-(?=study_|series)", "<stamp>-", value)
        return re.sub(r"\buntil ([\w-]+ )?\d\d:\d\d", "until <time>", value)
    return value


def ours(api):
    """Of the description of all routes, the part that is FirstPick's: what is sent and what comes back."""
    return {path: methods for path, methods in api["paths"].items() if path.startswith("/firstpick")}


@pytest.mark.parametrize("name", [*names(STORY), "serve", *names(EMPTY, "of none: ")])
def test_a_route_answers_as_is_recorded(name, answers):
    compare("routes", name, answers[name])
