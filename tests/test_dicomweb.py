"""Studies in a PACS: found, fetched, embedded and chosen as those of a folder; and a PACS that fails."""

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import threading
import time

import numpy as np
import pytest
from orthanc import Faulty, Orthanc, requests, uid, write_hospital

from firstpick.cli import main
from firstpick.sources.connection import DicomWeb, SourceError, checked_address
from firstpick.sources.conversation import connected
from firstpick.sources.dicomweb import Pacs
from firstpick.sources.eligibility import Eligibility
from firstpick.sources.fetching import Fetching, fetch_by, fetched
from firstpick.sources.folder import list_studies
from firstpick.sources.series import SeriesRule
from firstpick.sources.source import at_hand
from firstpick.voxels.bounds import allow_gb
from firstpick.voxels.volumes import VolumeError, read_volume

CONF = ("--encoder", "pixels", "--conf", "views.size", "56", "--conf", "n_workers", "1", "--batch-size", "3")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_hospital(tmp_path_factory.mktemp("hospital"))


@pytest.fixture(scope="module")
def pacs(files, tmp_path_factory):
    with Orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        running.send(files)
        yield running


@pytest.fixture(autouse=True)
def in_this_process(tmp_path):
    fetch_by(Fetching(folder=str(tmp_path / "state")))
    yield
    fetch_by(Fetching())


def look(pacs, **eligible):
    return Pacs(pacs.address, Eligibility(**eligible), DicomWeb(), dict).look()


def test_the_series_of_a_visit_are_one_study_from_a_folder_and_from_a_pacs(files, pacs):
    rule = SeriesRule("study_uid", primary=("*cor",))
    here = by_id(list_studies(files, series=rule)[0])
    there = by_id(Pacs(pacs.address, Eligibility(), DicomWeb(), dict, rule).look()[0])
    (study_id,) = [study_id for study_id, study in here.items() if len(study.series) > 1]
    assert study_id.rpartition("-")[0] == uid(4, 0)
    assert [one.name for one in there[study_id].series] == ["t2 cor", "t2 ax"]
    for own, remote in zip(here[study_id].series, there[study_id].series, strict=True):
        assert (own.study_id, own.name) == (remote.study_id, remote.name)
        with at_hand(remote) as (fetched_one, _):
            np.testing.assert_array_equal(read_volume(fetched_one).array, read_volume(own).array)


def firstpick(capsys, *arguments):
    status = main([*map(str, arguments), *CONF])
    return status, *capsys.readouterr()


def by_id(studies):
    return {study.study_id: study for study in studies}


def test_a_series_is_the_same_study_in_a_folder_and_in_a_pacs(files, pacs):
    here, there = by_id(list_studies(files)[0]), by_id(look(pacs)[0])
    assert set(here) <= set(there)
    assert sorted(set(there) - set(here)) == [f"{uid(5, 2)}-a41354", f"{uid(5, 3)}-a41354"]  # no header was read yet
    for study_id, study in here.items():
        assert (there[study_id].patient, there[study_id].modality) == (study.patient, study.modality)
        with at_hand(there[study_id]) as (fetched_study, facts):
            own, other = read_volume(study), read_volume(fetched_study)
        np.testing.assert_array_equal(own.array, other.array)
        np.testing.assert_array_equal(own.affine, other.affine)
        assert (own.notes, own.modality, own.is_picture) == (other.notes, other.modality, other.is_picture)
        assert not facts.localizer


def test_what_is_fetched_is_gone_afterwards(pacs, tmp_path):
    study = look(pacs)[0][0]
    with at_hand(study) as (here, _):
        assert len(here.files) == 8
        assert (tmp_path / "state" / "fetched").stat().st_mode & 0o077 == 0
    assert list((tmp_path / "state" / "fetched").iterdir()) == []


def test_modalities_and_descriptions_are_kept_to_and_no_report_is_a_study(pacs):
    assert [study.title for study in look(pacs, modalities=("mr",))[0]] == [
        "Visit 3/t1 tse", "Visit 4/t2 ax", "Visit 4/t2 cor",
    ]  # fmt: skip
    studies, left_out = look(pacs, series_description="^t2|^kopf")
    assert [study.title for study in studies] == ["Visit 4/t2 ax", "Visit 4/t2 cor", "Visit 5/Kopf"]
    assert {entry.reason for entry in left_out} == {
        "a structured report, not an image (Modality SR)",
        "its series description does not match '^t2|^kopf'",
    }
    assert [study.title for study in look(pacs, exclude=(f"{uid(4, 0)}/*",), modalities=("MR",))[0]] == [
        "Visit 3/t1 tse"
    ]


def test_the_listing_is_one_search_however_many_series_there_are(pacs, monkeypatch):
    asked = []
    send = requests.Session.send
    monkeypatch.setattr(requests.Session, "send", lambda *args, **kw: asked.append(args[1].url) or send(*args, **kw))
    look(pacs)
    assert len(asked) == 2  # the second page is empty
    monkeypatch.setattr("firstpick.sources.dicomweb._PAGE", 3)
    assert len(look(pacs)[0]) == 9


def rewritten(change):
    """Answers of searches with each series changed; a series that becomes None is left out."""

    def rewrite(path, content):
        if not path.split("?")[0].endswith("/series") or not content:
            return content
        return json.dumps([new for item in json.loads(content) if (new := change(item))]).encode()

    return rewrite


def test_a_pacs_that_tells_no_patient_with_a_series_is_asked_for_its_visits(pacs):
    expected = look(pacs)[0]
    with Faulty(pacs) as before:
        before.rewrite = rewritten(lambda item: {key: value for key, value in item.items() if key != "00100020"})
        found = look(before)[0]
        assert [study.study_id for study in found] == [study.study_id for study in expected]
        assert [study.patient for study in found] == [study.patient for study in expected]


def test_a_series_that_is_hidden_while_pages_are_turned_is_looked_for_again(pacs, monkeypatch):
    monkeypatch.setattr("firstpick.sources.dicomweb._PAGE", 4)
    with Faulty(pacs) as before:
        source = Pacs(before.address, Eligibility(), DicomWeb(), dict)
        expected, _ = source.look()
        n_before = len(before.asked)

        def hide(item):
            is_once = len(before.asked) < n_before + 4
            return None if is_once and item["0020000E"]["Value"] == [uid(1, 1)] else item

        before.rewrite = rewritten(hide)
        assert source.look()[0] == expected
        before.rewrite = rewritten(lambda item: None if item["0020000E"]["Value"] == [uid(1, 1)] else item)
        assert len(source.look()[0]) == len(expected) - 1


@pytest.mark.parametrize("odd", ["../../x", "..", "", "1.2/3", "x" * 100])
def test_uids_that_are_none_are_left_out(pacs, odd):
    with Faulty(pacs) as before:
        before.rewrite = rewritten(
            lambda item: {**item, "0020000E": {"Value": [odd]}} if item["0020000E"]["Value"] == [uid(1, 1)] else item
        )
        studies, left_out = look(before)
        assert len(studies) == 8
        assert "its SeriesInstanceUID or StudyInstanceUID is none" in [entry.reason for entry in left_out]


@pytest.mark.parametrize("odd", [b"{", b"[1]", b'[{"00080060": 3}]', b'{"a": 1}', b'[{"0020000E": {"Value": {}}}]'])
def test_what_is_no_answer_of_a_search_changes_nothing(pacs, odd):
    with Faulty(pacs) as before:
        before.rewrite = lambda path, content: odd if content else content
        with contextlib.suppress(SourceError):
            assert look(before)[0] == []


@pytest.mark.slow
def test_the_same_embeddings_and_the_same_batch(files, pacs, tmp_path, capsys):
    found = {}
    for name, place in (("folder", files), ("pacs", pacs.address)):
        place_and_state = ("--studies", place, "--state", tmp_path / name)
        status, out, err = firstpick(capsys, "pick", "--json", *place_and_state)
        assert status == 0, err
        found[name] = json.loads(out)
        assert firstpick(capsys, "export", "--out", tmp_path / f"{name}.npz", *place_and_state)[0] == 0
    with np.load(tmp_path / "folder.npz") as here, np.load(tmp_path / "pacs.npz") as there:
        assert here["study_ids"].tolist() == there["study_ids"].tolist()
        assert here["vectors"].tobytes() == there["vectors"].tobytes()
    picks = {name: [(pick["study_id"], pick["share"]) for pick in made["picks"]] for name, made in found.items()}
    assert picks["folder"] == picks["pacs"]
    left_out = {entry["study_id"]: entry["reason"] for entry in found["pacs"]["left_out"]}
    assert left_out[f"{uid(5, 2)}-a41354"] == "a localizer, not a study (ImageType LOCALIZER)"
    assert left_out[f"{uid(5, 3)}-a41354"] == "a secondary capture, not a study (ConversionType WSD)"


def test_series_come_change_and_go(files, tmp_path):
    with Orthanc(tmp_path / "orthanc") as pacs:
        pacs.send(files / "p1")
        (before,) = look(pacs)[0]
        pacs.send(files / "p3")
        assert [study.title for study in look(pacs)[0]] == ["Visit 1/Thorax 2.0 B31f", "Visit 3/t1 tse"]
        pacs.ask("DELETE", f"/instances/{pacs.find('Instance', PatientID='MRN-0001')[0]}")
        changed = look(pacs)[0][0]
        assert (changed.study_id, changed.stamp == before.stamp) == (before.study_id, False)
        for series in pacs.find("Series", PatientID="MRN-0001"):
            pacs.ask("DELETE", f"/series/{series}")
        assert [study.title for study in look(pacs)[0]] == ["Visit 3/t1 tse"]
        with pytest.raises(SourceError, match="answers 404") as error, fetched(before):
            pass
        assert not error.value.is_down


def test_pictures_and_films_are_studies_where_they_are_alone(phantom_volume, tmp_path):
    def write(patient, number, pixels, **tags):
        who = {"PatientID": "P", "StudyInstanceUID": f"1.2.{patient}", "SeriesInstanceUID": f"1.2.{patient}.1"}
        return phantom_volume.dicom(f"more/{patient}-{number}.dcm", pixels, **{**who, "Modality": "CR", **tags})

    picture = np.arange(48, dtype=np.int16).reshape(6, 8)
    write(1, 1, picture)
    for number in (1, 2):
        write(2, number, picture)
    write(3, 1, np.stack([picture, picture + 1]), Modality="US", FrameTime="40")
    for number in (1, 2):
        write(4, number, np.stack([picture, picture + 1]), Modality="MR")
    with Orthanc(tmp_path / "orthanc") as pacs:
        pacs.send(tmp_path / "more")
        studies, left_out = look(pacs)
        assert [study.study_id[:5] for study in studies] == ["1.2.1", "1.2.3", "1.2.4"]
        (entry,) = left_out
        assert (entry.study_id[:5], entry.reason[:24]) == ("1.2.2", "a series of 2 pictures: ")
        for study, name in zip(studies[:2], ("1-1", "3-1"), strict=True):
            with at_hand(study) as (here, facts):
                found, own = read_volume(here), read_volume(tmp_path / "more" / f"{name}.dcm")
                assert (found.is_picture, found.notes, facts.no_study) == (own.is_picture, own.notes, "")
                np.testing.assert_array_equal(found.array, own.array)
        with at_hand(studies[2]) as (_, facts):
            assert facts.no_study == "a series of 2 pictures or films: of a PACS only one is read"


def test_a_series_that_is_too_large_is_its_own_fault(pacs):
    allow_gb(1e-6)
    try:
        with pytest.raises(VolumeError, match="more than 1e-06 GB"), fetched(look(pacs)[0][0]):
            pass
    finally:
        allow_gb(4.0)


def test_the_doctor_asks_the_pacs(pacs, tmp_path, capsys):
    def said(address):
        main(["doctor", "--json", "--studies", address, "--state", str(tmp_path / "state"), *CONF[:2]])
        out = capsys.readouterr().out
        return next((one["level"], one["text"]) for one in json.loads(out) if one["what"] == "studies")

    assert said(pacs.address) == ("ok", "The PACS answers: 9 studies can be chosen, 1 series are left out.")
    level, text = said(f"{pacs.root}/nothing")
    assert (level, "answers 404" in text) == ("BAD", True)
    level, text = said("http://alice:s3cret@pacs.example/dicom-web")
    assert (level, "FIRSTPICK_DICOMWEB_USER" in text, "s3cret" in text) == ("BAD", True, False)


# -- a PACS that fails


def test_a_pacs_that_is_not_there_says_so_in_a_sentence(tmp_path, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/dicom-web"
    status, out, err = firstpick(capsys, "pick", "--studies", address, "--state", tmp_path / "state")
    assert (status, out) == (2, "")
    assert err == f"firstpick: The PACS at {address} does not answer (Connection refused).\n"


def test_a_full_disk_is_not_the_fault_of_the_pacs_nor_of_the_study(pacs, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pydicom.dataset.Dataset.save_as", full)
    study = look(pacs)[0][0]
    with pytest.raises(SourceError, match=r"cannot be written to .*: No space left on device"), fetched(study):
        pass


def test_an_address_that_is_no_dicomweb_says_so(pacs):
    with pytest.raises(SourceError, match=r"answers 404.* Is this the address of its DICOMweb"):
        Pacs(f"{pacs.root}/nothing", Eligibility(), DicomWeb(), dict).look()


@pytest.mark.slow
def test_errors_in_mid_run_are_waited_for_and_no_study_is_blamed(pacs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("firstpick.embedding.run._PAUSES_S", (0.2, 0.4, 0.8))
    with Faulty(pacs) as before:
        before.fault = lambda path: 503 if 4 <= len(before.asked) < 9 else None
        status, out, err = firstpick(capsys, "embed", "--studies", before.address, "--state", tmp_path / "state")
        assert (status, out) == (0, "7 of 7 studies embedded, 0 failed, 3 left out.\n"), err


@pytest.mark.slow
def test_a_pacs_that_goes_in_mid_run_ends_it_and_what_was_done_is_kept(pacs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("firstpick.embedding.run._PAUSES_S", (0.1, 0.1))
    with Faulty(pacs) as before:
        before.fault = lambda path: 503 if len(before.asked) > 5 else None
        arguments = ("embed", "--studies", before.address, "--state", tmp_path / "state")
        status, out, err = firstpick(capsys, *arguments)
        assert (status, out) == (2, "")
        assert err.splitlines()[-1] == f"firstpick: The PACS at {before.address} answers 503 Service Unavailable."
        n_before, before.fault = len(before.asked), None
        assert firstpick(capsys, *arguments)[:2] == (0, "7 of 7 studies embedded, 0 failed, 3 left out.\n")
        assert sum("/studies/" in path for path in before.asked[n_before:]) == 6  # three of nine were there


@pytest.mark.slow
def test_a_series_that_the_pacs_cannot_give_is_its_own_fault(pacs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("firstpick.embedding.run._PAUSES_S", (0.1, 0.1))
    with Faulty(pacs) as before:
        before.fault = lambda path: 500 if uid(3, 1) in path else None
        place_and_state = ("--studies", before.address, "--state", tmp_path / "state")
        out = firstpick(capsys, "embed", *place_and_state)[1]
        assert out.startswith("6 of 7 studies embedded, 1 failed, 3 left out.\n")
        assert sum(uid(3, 1) in path for path in before.asked) == 3
        out = main(["list", "--failed", *map(str, place_and_state), *CONF[:-2]]) or capsys.readouterr().out
        reason = f"The PACS at {before.address} answers 500 Internal Server Error."
        assert f"Visit 3/t1 tse\tfailed\t{reason}\n" in out


def test_a_pacs_that_hangs_is_given_up(files, tmp_path):
    with Orthanc(tmp_path / "orthanc") as pacs:
        pacs.send(files / "p1")
        (study,) = look(pacs)[0]
        os.kill(pacs.process.pid, signal.SIGSTOP)
        try:
            access = DicomWeb(timeout_s=0.5)
            with pytest.raises(SourceError, match=r"does not answer within 0\.5 s"):
                Pacs(pacs.address, Eligibility(), access, dict).look()
            fetch_by(Fetching(access, str(tmp_path)))
            with pytest.raises(SourceError) as error, fetched(study):
                pass
            assert error.value.is_down
        finally:
            os.kill(pacs.process.pid, signal.SIGCONT)
        assert look(pacs)[0] == [study]


def test_a_pacs_that_drips_is_given_up():
    """Each byte comes in time, but there is no end to them."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip():
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom+json\r\n\r\n[")
                while True:
                    try:
                        connection.sendall(b" ")
                    except OSError:
                        return
                    time.sleep(0.05)

        threading.Thread(target=drip, daemon=True).start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}/dicom-web"
        with (
            pytest.raises(SourceError, match="is too slow: an answer took more than 1 s"),
            connected(address, DicomWeb(), limit_s=1.0, limit_bytes=1e6) as client,
        ):
            client.search_for_series()


# -- credentials


@pytest.mark.parametrize("how", ["environment", "file"])
def test_credentials_come_from_the_environment_or_a_file(files, tmp_path, monkeypatch, how):
    with Orthanc(tmp_path / "orthanc", users={"alice": "s3cret:x"}) as pacs:
        pacs.send(files / "p1")
        with pytest.raises(SourceError, match=r"answers 401 .*FIRSTPICK_DICOMWEB_USER"):
            look(pacs)
        access = DicomWeb()
        if how == "environment":
            monkeypatch.setenv("FIRSTPICK_DICOMWEB_USER", "alice")
            monkeypatch.setenv("FIRSTPICK_DICOMWEB_PASSWORD", "s3cret:x")
        else:
            (tmp_path / "login").write_text("alice:s3cret:x\n")
            access = DicomWeb(credentials=str(tmp_path / "login"))
        (study,) = Pacs(pacs.address, Eligibility(), access, dict).look()[0]
        fetch_by(Fetching(access, str(tmp_path)))
        with fetched(study) as (here, _):
            assert len(here.files) == 8


@pytest.mark.parametrize("how", ["environment", "file"])
def test_a_token_goes_with_every_request(pacs, tmp_path, monkeypatch, how):
    access = DicomWeb()
    if how == "environment":
        monkeypatch.setenv("FIRSTPICK_DICOMWEB_TOKEN", "abc.def")
    else:
        (tmp_path / "token").write_text("abc.def\n")
        access = DicomWeb(credentials=str(tmp_path / "token"))
    with Faulty(pacs) as before:
        Pacs(before.address, Eligibility(), access, dict).look()
        assert set(before.logins) == {"Bearer abc.def"}


@pytest.mark.parametrize("command", ["embed", "serve", "pick"])
def test_credentials_in_an_address_are_refused_and_not_repeated(tmp_path, capsys, command):
    status, out, err = firstpick(
        capsys, command, "--studies", "https://alice:s3cret@pacs.example/dicom-web", "--state", tmp_path / "state"
    )
    assert (status, out) == (2, "")
    assert "FIRSTPICK_DICOMWEB_USER" in err
    assert "alice" not in err
    assert "s3cret" not in err


@pytest.mark.parametrize("address", ["http://", "http://:80/dicom-web", "http://host:port/", "http://host/x?user=a"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ValueError, match="must look like https"):
        checked_address(address)


def test_a_certificate_must_be_trusted(tmp_path):
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "cert.pem")
    server = subprocess.Popen(
        ["openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", tmp_path / "cert.pem", "-www"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        port = next(line for line in server.stdout if line.startswith("ACCEPT")).strip().rpartition(":")[2]
        pacs = Pacs(f"https://127.0.0.1:{port}/dicom-web", Eligibility(), DicomWeb(), dict)
        with pytest.raises(SourceError, match=r"certificate that is not trusted.*dicomweb\.ca_file"):
            pacs.look()
        trusting = DicomWeb(ca_file=str(tmp_path / "ca.pem"))
        with pytest.raises(SourceError, match=r"answer that cannot be read"):  # it is no PACS, but it is asked
            Pacs(pacs.address, Eligibility(), trusting, dict).look()
    finally:
        server.kill()
        server.communicate()
