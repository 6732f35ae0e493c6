"""Hostile requests to the real server, in the routes of FirstPick and of MONAI Label: refused in a sentence."""

import json
import time

import psutil
import pytest

pytest.importorskip("monailabel", reason="pip install 'firstpick[server]'")
requests = pytest.importorskip("requests", reason="pip install 'firstpick[server]'")

from server_process import Server, snapshot, wait_for, write_studies  # noqa: E402 - needs requests

pytestmark = pytest.mark.slow

STUDY = "study_00.nii.gz"
MB = b" " * 1_000_000


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Takes labels up to 3 MB; nothing that is sent may write into the studies or beside the state."""
    folder = tmp_path_factory.mktemp("bounds")
    studies = write_studies(folder / "studies", 4)
    (folder / "temporary").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder / "temporary"))
        server = Server(studies, folder / "state", "batch_size", "4", "max_upload_gb", "0.003")
    with server as started:
        started.wait_until_ready()
        before = snapshot(studies), sorted(folder.iterdir())
        yield started
        assert (snapshot(studies), sorted(folder.iterdir())) == before
        assert list((folder / "state" / "datastore" / "incoming").iterdir()) == []
        assert "Traceback" not in started.log.read_text()


def raw(text):
    return {"data": text.encode("utf-8", "surrogatepass"), "headers": {"Content-Type": "application/json"}}


def decision(**values):
    return {"json": {"study_id": STUDY, "client_id": "alice", "reason": "metal", **values}}


def said(field, text):
    return {"params": {"image": STUDY, "label": STUDY, "tag": "final"}, "data": {field: text}}


def chunks(n_megabytes, head=b"", tail=b""):
    """A body without a Content-Length."""
    yield head
    for _ in range(n_megabytes):
        yield MB
    yield tail


PART = b'--B\r\nContent-Disposition: form-data; name="label"; filename="label.nii.gz"\r\n\r\n'
MULTIPART = {"Content-Type": "multipart/form-data; boundary=B"}
OPEN_END = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("path", "sent", "status", "text"),
    [
        ("skip", decision(client_id="a" * 257), 422, "client_id: String should have at most 256 characters"),
        ("skip", decision(client_id="a\nb"), 422, "client_id: Line breaks and other control characters"),
        ("skip", decision(reason="x" * 2001), 422, "reason: String should have at most 2000 characters"),
        ("skip", decision(study_id="x" * 10_000), 422, "study_id: String should have at most 4096 characters"),
        ("skip", decision(study_id="x\ny\0"), 404, "is not in the studies folder"),
        ("skip", raw('{"study_id": "\\ud800", "reason": "x"}'), 422, "study_id: Input should be a valid string"),
        ("skip", raw('{"study_id": "a", "client_id": "\\ud800", "reason": "x"}'), 422, "client_id: "),
        ("skip", raw('{"\\ud800": 1}'), 422, "body: Input should be a valid string"),
        ("skip", raw("[" * 100_000), 400, "parsing the body"),
        ("skip", raw("\ud800"), 422, "It is no JSON"),
        ("skip", raw("no JSON"), 422, "It is no JSON: Expecting value"),
        ("skip", {**raw(""), "data": MB + b"{}"}, 413, "At most 1,000,000 bytes"),
        ("skip", {"data": chunks(5), "headers": OPEN_END}, 413, "At most 1,000,000 bytes"),
        ("skip", {"data": chunks(5), "headers": MULTIPART}, 413, "At most 1,000,000 bytes"),
        ("proposal", raw('{"batch_size": 1e400}'), 422, "batch_size: Input should be a finite number"),
        ("proposal", raw('{"batch_size": NaN}'), 422, "batch_size: Input should be a finite number"),
        ("proposal", raw('{"batch_size": %s}' % ("9" * 400)), 422, "batch_size: Input should be less than or equal to"),
        ("proposal", raw('{"seed": %s}' % ("9" * 400)), 422, "seed: Input should be less than"),
        ("proposal", {"json": {"strategy": "x" * 10_000}}, 422, "strategy: String should have at most 256"),
        ("reserve", decision(strategy="x" * 257), 422, "strategy: String should have at most 256"),
    ],
)
def test_decisions_are_bounded(server, path, sent, status, text):
    assert text in server.ask("POST", f"/firstpick/{path}", status, **sent)


@pytest.mark.parametrize("field", ["params", "info"])
@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ("[1]", "must be a JSON object; got a list"),
        ("{", "it is no JSON: Expecting property name"),
        ('{"a": NaN}', "NaN is no number that can be kept"),
        ('{"a": 1e400}', "1e400 is no number that can be kept"),
        ('{"a": %s}' % ("9" * 5000), "limit (4300 digits)"),
        ('{"a": "\\ud800"}', "surrogates not allowed"),
        ('{"\\ud800": 1}', "surrogates not allowed"),
        ("[" * 100_000, "it is no JSON"),
        ('{"a":' * 60 + "1" + "}" * 60, "nested more than 50 times"),
        ('{"a": "%s"}' % ("x" * 100_000), "at most 100,000 are allowed"),
        ('{"client_id": "a\\nb"}', "client_id: Line breaks"),
        ('{"client_id": "%s"}' % ("a" * 257), "client_id: String should have at most 256"),
        ('{"client_id": 5}', "client_id: Input should be a valid string"),
    ],
)
def test_what_comes_beside_files_is_plain_json(server, field, sent, text):
    path, files = (
        ("/datastore/label", {"label": ("label.nii.gz", b"x")})
        if field == "params"
        else (
            "/datastore/image/info",
            None,
        )
    )
    assert text in server.ask("PUT", path, 422, **said(field, sent), files=files)


def test_what_the_server_keeps_of_images_and_labels_is_not_for_others_to_say(server):
    for path in ("image/info", "label/info"):
        for key in ("strategy", "unknown_values", "checksum", "client_id", "seconds"):
            assert key in server.ask("PUT", f"/datastore/{path}", 422, **said("info", json.dumps({key: 5})))
    assert "strategy" in server.ask("PUT", "/datastore/updatelabelinfo", 422, **said("params", '{"strategy": 5}'))
    server.ask("PUT", "/datastore/image/info", **said("info", '{"seen": true}'))
    assert server.get("/datastore/image/info", image=STUDY)["seen"] is True
    assert server.next_sample("alice")["id"]


def test_labels_may_be_larger_but_not_without_end(server):
    study = {"params": {"image": STUDY}}
    too_large = "At most 0.003 GB (key max_upload_gb)"
    sent = {"label": ("label.nii.gz", 4 * MB)}
    assert too_large in server.ask("PUT", "/datastore/label", 413, **study, files=sent)
    sent = {"data": chunks(4, PART, b"\r\n--B--\r\n"), "headers": MULTIPART}
    assert too_large in server.ask("PUT", "/datastore/label", 413, **study, **sent)
    sent = {"data": chunks(2, PART, b"\r\n--B--\r\n"), "headers": MULTIPART}
    assert "was not saved" in server.ask("PUT", "/datastore/label", 422, **study, **sent)


NO_MODELS, NO_SESSIONS, NO_DICOMWEB = "has no models of its own", "keeps no images", "no DICOMweb server"
MISSING = {"image": "../" * 20 + "etc/passwd", "label": "x", "id": "x", "tag": "../evil"}


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        *(("POST", f"/{path}", 404, NO_MODELS) for path in ("infer/x", "infer/a%0Ab", "infer/wsi/x", "infer/wsi_v2/x")),
        *(("POST", f"/{path}", 404, NO_MODELS) for path in ("train/", "train/x", "scoring/", "scoring/x")),
        *(("POST", f"/batch/infer/{name}", 404, NO_MODELS) for name in ("x", "..%2f..%2fx")),
        *((method, "/model/..%2fx", 404, NO_MODELS) for method in ("GET", "PUT", "DELETE")),
        *((method, "/session/..%2f..", 404, NO_SESSIONS) for method in ("GET", "PUT", "DELETE")),
        ("PUT", "/session/?uncompress=true", 404, NO_SESSIONS),
        ("GET", "/proxy/dicom/wado/http:%2f%2fx", 404, NO_DICOMWEB),
        ("POST", "/proxy/dicom/x", 404, NO_DICOMWEB),
        ("GET", "/ohif/x", 404, NO_DICOMWEB),
        ("PUT", "/datastore/", 403, "never writes the studies folder"),
        ("PUT", "/datastore/image", 403, "never writes the studies folder"),
        ("DELETE", "/datastore/image?id=../x", 403, "never deletes studies"),
        ("DELETE", "/datastore/label?id=../x&tag=../evil", 404, "has no label"),
        ("GET", "/datastore/label?label=../x&tag=../evil", 404, "NOT Found"),
        ("GET", "/datastore/image?image=%ED%A0%80%00%0A", 404, "NOT Found"),
        ("GET", f"/datastore/image?image={'x' * 10_000}", 404, "NOT Found"),
        ("GET", "/datastore/?output=x", 422, "output: "),
        ("GET", "/datastore/dataset?limit_cases=-1", 422, "limit_cases: "),
        ("GET", "/datastore/dataset", 404, "No study has a final label"),
        ("GET", f"/logs/?lines={'9' * 30}", 422, "lines: "),
        ("POST", f"/activelearning/{'x' * 10_000}", 422, "strategy: String should have at most 256"),
        ("POST", "/activelearning/a%0Ab", 422, "strategy: Line breaks"),
        ("GET", f"/firstpick/thumbnail/{'x' * 10_000}", 422, "study_id: String should have at most 4096"),
        ("GET", "/firstpick/thumbnail/..%2f..%2fetc%2fpasswd", 404, "no picture"),
        ("GET", f"/firstpick/proposal?strategy={'x' * 257}", 422, "strategy: String should have at most 256"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else None,
)
def test_nothing_ends_in_a_server_error_or_reads_what_it_should_not(server, method, path, status, text):
    assert text in server.ask(method, path, status)


@pytest.mark.parametrize("tag", ["../evil", "..", "/etc", "a/b", "a\nb", "a\0", "x" * 10_000, "\ud800"], ids=ascii)
def test_a_tag_is_a_plain_name(server, tag):
    where = {"image": STUDY, "tag": tag.encode("utf-8", "surrogatepass")}
    answer = server.ask("PUT", "/datastore/label", 400, params=where, files={"label": ("label.nii.gz", b"x")})
    assert "is not allowed: take letters" in answer


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"strategy": "HACK"}, 404, "HACK"),
        ({"strategy": ["kmeans"]}, 422, "strategy: "),
        ({"client_id": {"a": 1}}, 422, "client_id: "),
        ({"client_id": "x" * 10_000}, 422, "client_id: "),
        ([1], 422, "body: "),
    ],
)
def test_who_asks_for_a_sample_is_checked(server, body, status, text):
    assert text in server.ask("POST", "/activelearning/firstpick", status, json=body)


def test_clients_that_say_nothing_of_themselves_get_samples(server):
    for body in ({}, {"client_id": None}, {"client_id": "user-xyz", "max_epochs": 5, "device": ["cpu"]}):
        assert server.ask("POST", "/activelearning/random", json=body)["id"]


@pytest.mark.parametrize(
    ("check_sum", "status"),
    [("", 200), ("SHA256:00", 404), ("MD5:zz", 422), ("FOO:1", 422), ("\0", 422)],
    ids=ascii,
)
def test_a_checksum_tells_whether_an_image_is_another(server, check_sum, status):
    address = f"http://127.0.0.1:{server.port}/datastore/image"
    assert requests.head(address, params={"image": STUDY, "check_sum": check_sum}, timeout=30).status_code == status


def test_the_right_checksum_is_found_right(server):
    import hashlib

    data = (server.studies / STUDY).read_bytes()
    address = f"http://127.0.0.1:{server.port}/datastore/image"
    for check_sum in (hashlib.sha256(data).hexdigest(), f"MD5:{hashlib.md5(data).hexdigest()}"):  # noqa: S324
        assert requests.head(address, params={"image": STUDY, "check_sum": check_sum}, timeout=30).status_code == 200


def test_what_needs_a_model_starts_no_process(server):
    def children():
        return {child.pid for child in psutil.Process(server.process.pid).children(recursive=True)}

    before = children()
    for path in ("train/x", "scoring/x", "batch/infer/x"):
        server.ask("POST", f"/{path}", 404, json={})
    time.sleep(1)
    assert children() <= before
    for path in ("train/", "scoring/", "batch/infer"):
        server.get(f"/{path}", 404)
        server.ask("DELETE", f"/{path}")


def test_making_the_app_anew_keeps_all(server):
    server.ask("POST", "/reload")
    assert server.get("/info/")["name"] == "FirstPick"
    assert server.picks()
    server.ask("POST", "/infer/x", 404)


def test_an_archive_of_labels_leaves_nothing_behind(server):
    temporary = server.state.with_name("temporary")
    server.upload(server.picks()[-1]["study_id"], "carol")
    before = set(temporary.iterdir())
    assert server.get("/datastore/dataset").content.startswith(b"PK")
    wait_for(lambda: set(temporary.iterdir()) == before, what="the archive to go")
