"""The command line: what scripts rely on."""

import csv
import json
import os
import re
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from firstpick.board.events import Labelled, Reopened, SavedLabel, Skipped
from firstpick.board.log import Log
from firstpick.cli import main
from firstpick.sources.folder import list_studies

ROOT = Path(__file__).parents[1]


@pytest.fixture
def run(phantom_volume, capsys):
    """Run a command over eight small studies with the fast encoder; return (status, stdout, stderr)."""
    for number in range(8):
        array = np.roll(phantom_volume.array, number, axis=number % 3)
        phantom_volume.nifti(f"studies/case_{number}.nii", array=array)
    folder = phantom_volume.folder
    common = ["--studies", str(folder / "studies"), "--state", str(folder / "state"), "--encoder", "pixels"]
    common += ["--conf", "views.size", "32", "--conf", "n_workers", "1"]

    def run(command, *arguments):
        status = main([command, *common, *arguments])
        out, err = capsys.readouterr()
        return status, out, err

    run.folder = folder
    return run


@pytest.mark.slow
def test_pick_prints_the_proposal_as_json_and_embeds_what_is_missing(run):
    (run.folder / "studies" / "broken.nii").write_bytes(b"")
    status, out, _ = run("pick", "--batch-size", "3", "--json", "--strategy", "kmeans", "--seed", "1")
    proposal = json.loads(out)
    assert status == 0
    assert {"schema", "strategy", "encoder", "provenance", "coverage", "picks", "failed", "left_out"} <= proposal.keys()
    assert [pick["rank"] for pick in proposal["picks"]] == [1, 2, 3]
    assert sum(pick["share"] for pick in proposal["picks"]) == pytest.approx(1)
    assert all(pick["reason"] and pick["status"] == "open" for pick in proposal["picks"])
    reason = "broken.nii is empty (0 bytes)."
    assert proposal["failed"] == [{"study_id": "broken.nii", "reason": reason, "title": "broken.nii"}]
    again = json.loads(run("pick", "--batch-size", "3", "--json", "--strategy", "kmeans", "--seed", "1")[1])
    assert again == proposal


@pytest.mark.slow
def test_slices_are_picked_and_exported_with_their_places(run):
    slices = [item for pair in (("unit", "slice"), ("views.planes", "[axial]")) for item in ("--conf", *pair)]
    status, out, _ = run("pick", "--batch-size", "5", *slices, "--advice")
    assert status == 0
    assert "5 slices in " in out
    assert "Axial " in out
    _, out, _ = run("export", "--out", str(run.folder / "pool.npz"), *slices)
    with np.load(run.folder / "pool.npz") as pool:
        assert set(pool["planes"]) == {"axial"}
        assert len(pool["study_ids"]) == len(pool["vectors"]) == len(pool["indices"])
        np.testing.assert_allclose(pool["positions_mm"], 2.0 * pool["indices"])
        assert f"{len(pool['vectors'])} slices of 8 studies" in out


@pytest.mark.slow
def test_labelled_studies_are_not_picked_again(run):
    first = json.loads(run("pick", "--batch-size", "4", "--json")[1])
    labelled = [pick["study_id"] for pick in first["picks"]]
    (run.folder / "done.txt").write_text("\n".join(labelled) + "\n")
    second = json.loads(run("pick", "--batch-size", "4", "--json", "--labelled", str(run.folder / "done.txt"))[1])
    assert not {pick["study_id"] for pick in second["picks"]} & set(labelled)
    assert second["n_labelled"] == 4


@pytest.mark.slow
def test_report_writes_what_pick_says_as_one_file(run):
    (run.folder / "done.txt").write_text("case_3\n")
    labelled = ("--labelled", str(run.folder / "done.txt"), "--batch-size", "3")
    status, out, _ = run("report", "--out", str(run.folder / "report.html"), *labelled, "--advice")
    assert status == 0
    assert "report.html: 3 of 8 studies" in out
    html = (run.folder / "report.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', html).group(1))
    picked = json.loads(run("pick", "--json", *labelled, "--advice")[1])
    assert data["proposal"] == picked
    assert [point["study_id"] for point in data["map"]["points"] if point["status"] == "done"] == ["case_3.nii"]
    assert data["pictures"].keys() == {f"case_{number}.nii" for number in range(8)}


@pytest.mark.slow
def test_embed_export_and_list_agree(run):
    (run.folder / "studies" / "broken.nii").write_bytes(b"")
    status, out, _ = run("embed", "--profile")
    assert status == 0
    assert "8 of 9 studies embedded, 1 failed, 0 left out." in out
    stages = ("listing", "starting", "reading", "viewing", "encoding", "storing", "wall", "bare encoder")
    assert all(f"\n{stage} " in out for stage in stages)
    assert re.search(r"\nparts +72\n", out)  # three views of each plane
    told = json.loads(run("embed", "--profile", "--json")[1])
    profile = told.pop("profile")
    assert told == {"n_total": 9, "n_done": 8, "n_failed": 1, "n_left_out": 0}
    assert profile["wall"] > profile["listing"] > 0 == profile["parts"] == profile["encoding"]  # all is embedded
    run("export", "--out", str(run.folder / "pool.npz"))
    with np.load(run.folder / "pool.npz", allow_pickle=False) as pool:
        assert pool["study_ids"].tolist() == [f"case_{number}.nii" for number in range(8)]
        assert pool["vectors"].shape == (8, 1024)
        assert pool["vectors"].dtype == np.float32
    assert run("list", "--failed")[1] == "broken.nii\tfailed\tbroken.nii is empty (0 bytes).\n"
    run("export", "--decisions", "--out", str(run.folder / "decisions.csv"))
    assert (run.folder / "decisions.csv").read_text().strip() == "at,study_id,title,kind,client,seconds,detail"


@pytest.mark.slow
def test_people_read_titles_and_programs_get_both(run, monkeypatch):
    def titled(folder, eligibility, *, series, known):
        studies, left_out = list_studies(folder, eligibility, series=series, known=known)
        return [replace(study, title=f"Knee {study.study_id[5]}") for study in studies], left_out

    monkeypatch.setattr("firstpick.sources.source.list_studies", titled)
    (run.folder / "studies" / "case_9.nii").write_bytes(b"")
    assert run("list", "--failed")[1] == ""
    out = run("pick", "--batch-size", "3")[1]
    assert re.findall(r"^ +\d  Knee \d ", out, re.MULTILINE)
    assert "case_" not in out
    assert run("list", "--failed")[1] == "Knee 9\tfailed\tcase_9.nii is empty (0 bytes).\n"
    with closing(Log(run.folder / "state")) as log:
        log.append(*(Skipped(study_id=i, client="alice", reason="metal") for i in ("case_3.nii", "gone")))
        label = SavedLabel(".nii", "", {"client_id": "bob", "seconds": 90})
        log.append(Labelled(study_id="case_4.nii", client="bob", tag="final", label=label))
    out = run("export", "--decisions", "--out", str(run.folder / "decisions.csv"))[1]
    assert out.splitlines()[1:] == ["alice: 0 done, 2 skipped, 0 min.", "bob: 1 done, 0 skipped, 2 min."]
    with (run.folder / "decisions.csv").open(newline="") as file:
        rows = [(row["study_id"], row["title"], row["seconds"], row["detail"]) for row in csv.DictReader(file)]
    skipped = [("case_3.nii", "Knee 3", "", "metal"), ("gone", "gone", "", "metal")]
    assert rows == [*skipped, ("case_4.nii", "Knee 4", "90.0", "final")]


def test_the_studies_folder_is_left_as_it_was(run):
    before = sorted((path, path.stat().st_mtime_ns) for path in (run.folder / "studies").rglob("*"))
    run("list", "--failed")
    assert sorted((path, path.stat().st_mtime_ns) for path in (run.folder / "studies").rglob("*")) == before


@pytest.mark.slow
def test_final_labels_that_lie_where_monai_label_keeps_them_count(run):
    final = run.folder / "studies" / "labels" / "final"
    final.mkdir(parents=True)
    for number in range(7):
        (final / f"case_{number}.nii.gz").write_bytes(b"a label")
    (final / "stranger.nii.gz").write_bytes(b"a label")
    _, out, err = run("pick", "--json")
    proposal = json.loads(out)
    assert "1 of the final labels are no single study's, such as stranger.nii.gz." in err
    assert [pick["study_id"] for pick in proposal["picks"]] == ["case_7.nii"]
    with closing(Log(run.folder / "state")) as log:
        log.append(Labelled(study_id="case_3.nii", tag="final", label=SavedLabel(".nii.gz", "")))
        log.append(Reopened(study_id="case_3.nii", client="alice"))
    assert len(json.loads(run("pick", "--json")[1])["picks"]) == 2
    served = run.folder / "state" / "datastore" / "labels" / "final"  # a server has taken them over, one was deleted
    served.mkdir(parents=True)
    for number in range(6):
        (served / f"case_{number}.nrrd").write_bytes(b"a label")
    picks = {pick["study_id"] for pick in json.loads(run("pick", "--json")[1])["picks"]}
    assert picks == {"case_3.nii", "case_6.nii", "case_7.nii"}  # the first stays open until the server sees a new label


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((ROOT / "sample_configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_sample_configuration_runs(path, phantom_volume, capsys):
    for number in range(2):
        array = np.roll(np.repeat(phantom_volume.array, 3, axis=2), number, axis=0)
        if path.stem == "chest_xray":
            Image.fromarray((array[:, :, 16] + 1000).astype(np.uint16)).save(phantom_volume.folder / f"x{number}.png")
        else:
            phantom_volume.nifti(f"x{number}.nii", array=array)
    state = phantom_volume.folder.with_name("state")
    common = ["--studies", str(phantom_volume.folder), "--state", str(state), "--config", str(path)]
    common += ["--conf", "cluster.scheduler", ""]  # there is none here
    assert main(["pick", *common, "--json", "--conf", "n_workers", "1"]) == 0
    proposal = json.loads(capsys.readouterr().out)
    ending = "png" if path.stem == "chest_xray" else "nii"
    assert {pick["study_id"] for pick in proposal["picks"]} == {f"x0.{ending}", f"x1.{ending}"}
    assert proposal["note"]  # fewer than the batch that the file asks for


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["pick", "--studies", "missing"], "missing"),
        (["pick", "--studies", ".", "--strategy", "kmean"], "Did you mean 'kmeans'?"),
        (["pick", "--studies", ".", "--batch-size", "0"], "batch_size must be at least 1; got 0."),
        (["embed", "--studies", "."], "holds no study that FirstPick can read"),
        (["embed", "--studies", ".", "--state", "inside"], "lies in the studies folder"),
        (["check", "--conf", "sede", "1"], "Did you mean 'seed'?"),
        (["list", "--failed"], "needs --studies DIR"),
    ],
)
def test_a_users_error_is_one_line_on_stderr_and_status_2(arguments, text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inside").mkdir()
    if text == "lies in the studies folder":
        (tmp_path / "a.nii").write_bytes(b"x")
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert text in err
    assert err.startswith("firstpick: ")
    assert err.count("\n") == 1


def test_without_monailabel_serve_prints_the_line_to_type(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("firstpick.cli.serve.importlib.util.find_spec", lambda name: None)
    assert main(["serve", "--studies", str(tmp_path)]) == 2
    assert "Type: pip install --no-deps monailabel==0.8.5" in capsys.readouterr().err


def test_serve_becomes_monailabel_with_an_app_folder_of_its_own(run, monkeypatch):
    started = {}
    monkeypatch.setattr(
        "firstpick.cli.serve.runpy.run_module", lambda name, **_: started.update(name=name, argv=sys.argv)
    )
    monkeypatch.setattr("firstpick.cli.serve.need_monailabel", lambda: None)  # the core is tested without it too
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setenv("MONAI_LABEL_AUTO_UPDATE_SCORING", "true")
    run("serve", "--port", "9000")
    command = started["argv"]
    assert started["name"] == "monailabel.main"
    assert command[:2] == ["monailabel.main", "start_server"]
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--port") + 1] == "9000"
    assert os.environ["MONAI_LABEL_AUTO_UPDATE_SCORING"] == "false"
    app = run.folder / "state" / "app"
    assert command[command.index("--app") + 1] == str(app)
    assert "FirstPickApp" in (app / "main.py").read_text()


def test_check_prints_every_effective_value(capsys):
    assert main(["check", "--batch-size", "7", "--conf", "views.size", "56"]) == 0
    out = capsys.readouterr().out
    assert "batch_size: 7\n" in out
    assert "views.size: 56\n" in out


def test_list_names_and_describes_everything(capsys):
    main(["list"])
    out = capsys.readouterr().out
    assert all(name in out for name in ("kmeans", "random", "dinov2-s", "pixels", "random-init"))
