"""FirstPick inside another MONAI Label app: what it adds, and what stays the app's own."""

import json
import shutil
import stat
import warnings
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("monailabel", reason="pip install 'firstpick[server]'")
requests = pytest.importorskip("requests", reason="pip install 'firstpick[server]'")

from host_app import Host, changed  # noqa: E402 - needs requests
from openid_provider import Provider  # noqa: E402
from server_process import wait_for, write_studies  # noqa: E402

from firstpick.config import ConfigError  # noqa: E402
from firstpick.selection import STRATEGIES  # noqa: E402

with warnings.catch_warnings():  # of what MONAI Label imports
    warnings.simplefilter("ignore")
    from monailabel.datastore.local import LocalDatastore

    from firstpick.server.host import _build as build

pytestmark = pytest.mark.slow

MAIN = """\
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.interfaces.tasks.strategy import Strategy


class Bright(InferTask):
    def __init__(self):
        super().__init__(InferType.SEGMENTATION, {"background": 0, "bright": 2, "dark": 1}, 3, "What is bright")

    def is_valid(self):
        return True

    def __call__(self, request):
        return None, {"asked": request["image"]}


class Last(Strategy):
    def __call__(self, request, datastore):
        return {"id": sorted(datastore.get_unlabeled_images())[-1]}


class MyApp(MONAILabelApp):
    def __init__(self, app_dir, studies, conf):
        super().__init__(app_dir, studies, conf, name="Mine")

    def init_infers(self):
        return {"bright": Bright()}

    def init_strategies(self):
        return {"random": Last("Mine"), "last": Last("The last one")}
"""
ALL = {f"study_{number:02d}" for number in range(6)} | {"ward/inner", "beating"}
"""What can be read."""

SCORES = """
    def init_scoring_methods(self):
        return {"nothing": Nothing("Nothing")}


class Nothing(monailabel.interfaces.tasks.scoring.ScoringMethod):
    def __call__(self, request, datastore):
        return {}
"""


def write_app(folder, code=MAIN):
    folder.mkdir(parents=True)
    (folder / "main.py").write_text(changed(code), encoding="utf-8")
    return folder


def write_datastore(folder):
    """What MONAI Label left: images and labels in folders of other names, one image further below, labels of before."""
    images = write_studies(folder / "images", 6)
    (images / "ward").mkdir()
    shutil.copy(images / "study_03.nii.gz", images / "ward" / "inner.nii.gz")
    four = np.stack([nib.load(images / "study_01.nii.gz").get_fdata()] * 2, -1).astype(np.int16)
    nib.save(nib.Nifti1Image(four, np.eye(4)), images / "beating.nii.gz")
    (images / "slide.svs").write_bytes(b"a slide")
    (folder.parent / "secret.nii.gz").write_bytes((images / "study_00.nii.gz").read_bytes())
    (images / "out.nii.gz").symlink_to(folder.parent / "secret.nii.gz")
    for tag, study in (("final", "study_05"), ("original", "study_04")):
        (folder / "marks" / tag).mkdir(parents=True)
        shutil.copy(images / f"{study}.nii.gz", folder / "marks" / tag)
    inner = {"image": {"ext": ".nii.gz", "info": {"ward": "B"}}, "labels": {}}
    known = {"name": "n", "description": "d", "images_dir": "images", "labels_dir": "marks"}
    (folder / "datastore_v2.json").write_text(json.dumps({**known, "objects": {"ward/inner": inner}}))
    return folder


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    folder = tmp_path_factory.mktemp("host")
    app, studies = write_app(folder / "app"), write_datastore(folder / "studies")
    with Host(app, studies, folder / "state", "batch_size", "4", of_host=("strategy", "of the host")) as server:
        server.wait_until_ready()
        yield server


def stamped(server, study_id):
    return server.get("/datastore/image/info", image=study_id)


def status_of(server, study_id):
    return next(point for point in server.get("/firstpick/map")["points"] if point["study_id"] == study_id)


def test_its_strategies_are_offered_before_the_apps_own_which_keep_their_names(host):
    info = host.get("/info/")
    assert info["name"] == "Mine"
    assert list(info["models"]) == ["bright"]
    assert list(info["strategies"])[:3] == ["firstpick", "random", "last"]
    assert set(info["strategies"]) == {"firstpick", "last", *STRATEGIES}
    assert info["strategies"]["random"]["description"] == "Mine"
    assert "kmeans" in info["strategies"]["firstpick"]["description"]


def test_the_studies_are_the_images_of_the_app_under_its_ids(host):
    assert {point["study_id"] for point in host.get("/firstpick/map")["points"]} == ALL
    assert set(host.get("/datastore/", output="all")["objects"]) == {*ALL, "slide", "out"}
    status = host.status()
    left_out = {one["study_id"]: one["reason"] for one in status["left_out"]}
    assert left_out.keys() == {"slide", "out"}
    assert "svs" in left_out["slide"]
    assert "outside" in left_out["out"]


def test_what_is_embedded_is_the_file_that_the_app_hands_out(host):
    for study_id in ALL:
        info = stamped(host, study_id)
        path = Path(info["path"])
        assert path == host.studies / "images" / f"{study_id}.nii.gz"
        assert host.image(study_id).content == path.read_bytes()
        assert info["size"] == path.stat().st_size
        assert info["stamp"] == f"{path.stat().st_size}-{path.stat().st_mtime_ns}"
    assert stamped(host, "ward/inner")["ward"] == "B"
    assert stamped(host, "nobody") == {}
    assert "stamp" not in (host.studies / "datastore_v2.json").read_text()


def test_a_study_is_of_one_series_its_file(host):
    for study_id in ("study_02", "ward/inner"):
        path = host.studies / "images" / f"{study_id}.nii.gz"
        (one,) = host.get(f"/firstpick/series/{study_id}")
        assert (one["is_primary"], one["size"]) == (True, path.stat().st_size)
        assert one["stamp"] == stamped(host, study_id)["stamp"]
        assert host.ask("GET", f"/firstpick/image/{study_id}/{one['name']}").content == path.read_bytes()


def test_it_is_noted_where_itk_reads_other_voxels(host):
    notes = host.status()["notes"]
    assert notes.keys() == {"beating"}
    assert "ITK" in notes["beating"][-1]


def test_the_labels_are_what_the_apps_models_draw(host):
    assert [(label["name"], label["value"]) for label in host.status()["labels"]] == [("dark", 1), ("bright", 2)]
    assert len({label["color"] for label in host.status()["labels"]}) == 2


def test_labels_from_before_count_and_those_of_models_do_not(host):
    assert status_of(host, "study_05")["status"] == "done"
    assert status_of(host, "study_04")["status"] == "open"
    assert [label["tag"] for label in host.get("/firstpick/labels/study_04")] == ["original"]
    assert "study_05" not in {pick["study_id"] for pick in host.picks()}


def test_next_samples_by_both(host):
    first = host.picks()[0]["study_id"]
    sample = host.next_sample("alice")
    assert sample["id"] == first
    assert sample["path"] == str(host.studies / "images" / f"{first}.nii.gz")
    assert len(sample["firstpick"]["picks"]) == 4
    assert host.next_sample("alice", "last")["id"] == host.next_sample("alice", "random")["id"] == "ward/inner"
    assert status_of(host, first)["client"] == "alice"
    host.post("/firstpick/release", study_id=first, client_id="alice")


def test_an_app_that_scores_does_so_after_its_own_strategies_alone(tmp_path):
    app = write_app(tmp_path / "app", "import monailabel.interfaces.tasks.scoring\n" + MAIN + SCORES)
    with Host(app, write_studies(tmp_path / "studies", 3), tmp_path / "state") as server:
        server.wait_until_ready()

        def scorings():
            return [task["status"] for task in server.get("/scoring/", all="true")]

        assert len(scorings()) == 1  # MONAI Label begins with it
        assert server.next_sample("alice")["id"]
        assert len(scorings()) == 1
        # a process beside the server, which makes the app once more: it needs no state folder
        wait_for(lambda: scorings() == ["DONE"], 90, "the scoring")
        assert server.next_sample("alice", "last")["id"] == "study_02"
        assert len(scorings()) == 2


def test_a_label_saved_through_the_app_counts_at_once(host):
    study_id = host.picks()[0]["study_id"]
    host.post("/firstpick/reserve", study_id=study_id, client_id="alice")
    content = host.mask(study_id)
    host.upload(study_id, "alice", tag="saved-alice-2bd8", content=content)
    assert [status_of(host, study_id)[key] for key in ("status", "client")] == ["reserved", "alice"]
    assert host.upload(study_id, content=content) == {"image": study_id, "label": study_id}
    assert [status_of(host, study_id)[key] for key in ("status", "client")] == ["done", "alice"]
    label = host.studies / "marks" / "final" / f"{study_id}.nii.gz"
    assert label.read_bytes() == content
    listed = host.get(f"/firstpick/labels/{study_id}", client_id="alice")
    assert [(one["tag"], one["is_resumed"]) for one in listed] == [("final", True), ("saved-alice-2bd8", False)]
    assert host.ask("GET", listed[0]["path"]).content == content
    host.ask("DELETE", "/datastore/label", params={"id": study_id, "tag": "final"})
    wait_for(lambda: status_of(host, study_id)["status"] == "open", 20, "the label that went")


def test_a_label_that_another_program_put_there_counts_at_the_next_look(host):
    study_id = host.picks()[1]["study_id"]
    label = host.studies / "marks" / "final" / f"{study_id}.nii.gz"
    label.write_bytes(host.mask(study_id))
    wait_for(lambda: status_of(host, study_id)["status"] == "done", 20, "the label that came")
    label.unlink()
    wait_for(lambda: status_of(host, study_id)["status"] == "open", 20, "the label that went")


def test_an_image_that_comes_is_embedded(host):
    new = host.studies / "images" / "study_99.nii.gz"
    shutil.copy(host.studies / "images" / "study_02.nii.gz", new)
    ids = {*ALL, "study_99"}
    wait_for(lambda: {point["study_id"] for point in host.get("/firstpick/map")["points"]} == ids, 30, "the new image")
    new.unlink()
    wait_for(lambda: {point["study_id"] for point in host.get("/firstpick/map")["points"]} == ALL, 30, "its end")


def test_reload_makes_a_new_app_and_nothing_decided_is_lost(host):
    study_id = host.picks()[2]["study_id"]
    host.post("/firstpick/skip", study_id=study_id, client_id="bob", reason="metal")
    host.post("/reload")
    assert list(host.get("/info/")["strategies"])[:3] == ["firstpick", "random", "last"]
    assert status_of(host, study_id)["status"] == "skipped"
    host.post("/firstpick/unskip", study_id=study_id, client_id="bob")
    sample = host.next_sample("carol")["id"]
    assert host.next_sample("carol", "last")["id"] == "ward/inner"
    host.upload(sample, "carol")
    assert [status_of(host, sample)[key] for key in ("status", "client")] == ["done", "carol"]
    assert stamped(host, sample)["stamp"]
    host.ask("DELETE", "/datastore/label", params={"id": sample, "tag": "final"})
    wait_for(lambda: status_of(host, sample)["status"] == "open", 20, "the label that went")


def test_the_slicer_module_gets_the_answers_that_it_needs(host, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "slicer_extension" / "FirstPick"))
    from FirstPickLib.client import FINAL, Client
    from FirstPickLib.shapes import File, Picture, isOf

    client = Client(f"127.0.0.1:{host.port}", "alice")

    def send(request, **more):
        if request.body:
            more = {"data": request.body, "headers": {"Content-Type": "application/json"}}
        answer = requests.request(request.method, request.url, timeout=30, **more)
        assert answer.status_code == 200, answer.text
        if isinstance(request.shape, (File, Picture)):
            return answer.content
        assert isOf(answer.json(), request.shape), answer.text
        return answer.json()

    study_id = send(client.proposal(""))["picks"][0]["study_id"]
    for request in (
        client.status(),
        client.monaiLabel(),
        client.strategies(),
        client.map(""),
        client.newProposal("", 4),
    ):
        assert send(request)
    assert send(client.thumbnail("ward/inner")).startswith(b"\x89PNG")
    assert send(client.imageInfo("nobody")) == {}
    info = send(client.imageInfo(study_id))
    assert len(send(client.image(study_id))) == info["size"]
    assert send(client.change("reserve", study_id))["client"] == "alice"
    save = client.saveLabel(study_id, FINAL, [{"name": "bright", "value": 2}], 12.5)
    send(save, data=dict(save.form), files={"label": ("label.nii.gz", host.mask(study_id))})
    label = send(client.labels(study_id))[0]
    assert (label["client"], label["seconds"]) == ("alice", 12.5)
    assert send(client.listedLabel(label)) == host.mask(study_id)
    host.ask("DELETE", "/datastore/label", params={"id": study_id, "tag": "final"})
    wait_for(lambda: status_of(host, study_id)["status"] == "open", 20, "the label that went")


@pytest.mark.parametrize(
    ("headers", "expected"), [({"Host": "evil.example"}, 421), ({"Origin": "http://evil.example"}, 403)]
)
def test_the_rules_hold_for_firstpick_alone(host, headers, expected):
    def answer(path, method="GET"):
        return requests.request(method, f"http://127.0.0.1:{host.port}{path}", headers=headers, timeout=30)

    for path in ("/firstpick/status", "/firstpick/", "/firstpick/nothing", "/firstpick"):
        assert answer(path).status_code == expected
        assert answer(path).headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert answer("/info/").status_code == 200
    assert "Cross-Origin-Resource-Policy" not in answer("/info/").headers
    if "Origin" in headers:
        assert answer("/info/").headers["Access-Control-Allow-Origin"] in ("*", headers["Origin"])
        assert "Access-Control-Allow-Origin" not in answer("/firstpick/status").headers


def test_the_apps_own_routes_are_as_they_were(host):
    answer = host.ask("POST", "/infer/bright", params={"image": "study_00", "output": "json"})
    assert answer["asked"] == str(host.studies / "images" / "study_00.nii.gz")
    assert host.get("/nowhere", 404) == "Not Found"
    assert not [path for path in host.get("/openapi.json")["paths"] if "firstpick" in path]
    assert "swagger" in host.ask("GET", "/").text
    huge = requests.put(f"http://127.0.0.1:{host.port}/datastore/label/info", data=b"x" * 2_000_000, timeout=30)
    assert huge.status_code == 422  # it lacks what is wanted, but is not too large


def test_page_and_documentation_lie_under_firstpick(host):
    assert "script-src" in host.ask("GET", "/firstpick/").headers["Content-Security-Policy"]
    assert host.ask("GET", "/firstpick").url.endswith("/firstpick/")
    assert "/firstpick/proposal" in host.get("/firstpick/openapi.json")["paths"]
    assert "documentation/swagger-ui.css" in host.ask("GET", "/firstpick/docs").text
    assert host.ask("GET", "/firstpick/documentation/swagger-ui.css").content
    assert host.ask("POST", "/firstpick/skip", 413, data=b"x" * 2_000_000)
    assert "study_id" in host.post("/firstpick/skip", 422)


def test_nothing_is_written_into_the_datastore_but_by_the_app(host):
    names = {path.relative_to(host.studies).as_posix() for path in host.studies.rglob("*")}
    assert {name.partition("/")[0] for name in names} == {"images", "marks", "datastore_v2.json", ".lock"}
    assert not stat.S_IMODE(host.state.stat().st_mode) & 0o077


def test_with_authentication_on_tokens_are_asked_for_as_in_our_own_app(tmp_path, monkeypatch):
    with Provider(user=("user",), annotator=("annotator",)) as provider:
        monkeypatch.setenv("MONAI_LABEL_AUTH_ENABLE", "true")
        monkeypatch.setenv("MONAI_LABEL_AUTH_REALM_URI", provider.realm)
        with Host(write_app(tmp_path / "app"), write_studies(tmp_path / "studies", 2), tmp_path / "state") as server:
            wait_for(lambda: server.process.poll() is not None or is_up(server), 120, "the server")
            for path in ("/firstpick/status", "/firstpick/proposal", "/firstpick/thumbnail/study_00"):
                server.get(path, 401)
            assert server.signed_in(provider.token("user")).status()["strategy"] == "kmeans"
            skip = {"study_id": "study_00", "client_id": "bob", "reason": "metal"}
            server.signed_in(provider.token("user")).post("/firstpick/skip", 403, **skip)
            assert server.ask("GET", "/firstpick/").text


def is_up(server):
    try:
        return requests.get(f"http://127.0.0.1:{server.port}/", timeout=5).status_code == 200
    except requests.ConnectionError:
        return False


def refusal(folder, datastore=LocalDatastore, **conf):
    """Why FirstPick does not come into an app."""
    app = SimpleNamespace(app_dir=str(folder / "app"), studies=str(folder), conf=conf, _infers={}, labels=None)
    app.datastore = lambda: datastore(str(folder))
    with pytest.raises(ConfigError) as refused:
        build(app)
    return str(refused.value)


def test_a_configuration_that_cannot_be_is_refused(tmp_path):
    assert "Did you mean 'kmeans'?" in refusal(tmp_path, **{"firstpick.strategy": "kmens", "strategy": "the host's"})
    assert "readers_per_study must be 1 inside" in refusal(tmp_path, **{"firstpick.readers_per_study": "2"})
    assert "drafts.enabled needs drafts.model inside" in refusal(tmp_path, **{"firstpick.drafts.enabled": "true"})
    assert "series.by must be empty inside" in refusal(tmp_path, **{"firstpick.series.by": "folder"})
    state = tmp_path / "state"
    assert "which FirstPick never writes" in refusal(tmp_path, **{"firstpick.state_dir": str(state)})
    assert not state.exists()


def test_a_datastore_that_is_no_folder_is_refused(tmp_path):
    class Elsewhere:
        def __init__(self, folder):
            """Be no LocalDatastore."""

    assert "in a Elsewhere; FirstPick can look into a folder" in refusal(tmp_path, Elsewhere)


def test_studies_in_a_pacs_end_the_start_with_the_way_that_works(tmp_path, monkeypatch):
    tool = write_app(tmp_path / "app") / "bin" / "itkimage2segimage"  # else MONAI Label would fetch it
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    monkeypatch.setenv("MONAI_LABEL_DICOMWEB_CACHE_PATH", str(tmp_path / "cache"))
    with Host(tmp_path / "app", "http://127.0.0.1:9/dicom-web", tmp_path / "state") as server:
        assert server.process.wait(120) != 0
        said = server.log.read_text()
    assert "FirstPick cannot start. The studies of this app are in a PACS" in said
    assert "firstpick serve --studies http://127.0.0.1:9/dicom-web" in said
