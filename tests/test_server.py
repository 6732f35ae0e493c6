"""The story of a reading room, told to the real server."""

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import venv
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("monailabel", reason="pip install 'firstpick[server]'")
requests = pytest.importorskip("requests", reason="pip install 'firstpick[server]'")

from server_process import FAST, Server, firstpick, is_alive, wait_for, write_studies  # noqa: E402 - needs requests

from firstpick.selection import STRATEGIES  # noqa: E402

pytestmark = pytest.mark.slow

APP = Path(__file__).parents[1] / "monailabel_app"


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    """Twelve studies, and a state folder where all are embedded; copy it."""
    folder = tmp_path_factory.mktemp("twelve")
    studies = write_studies(folder / "studies", 12)
    pairs = [item for key, value in zip(FAST[::2], FAST[1::2], strict=True) for item in ("--conf", key, value)]
    done = firstpick("embed", "--studies", studies, "--state", folder / "state", *pairs)
    assert done.returncode == 0, done.stderr
    return studies, folder / "state"


@pytest.fixture(scope="module")
def running(embedded, tmp_path_factory):
    """One server for all tests that need no special one."""
    state = tmp_path_factory.mktemp("running") / "state"
    shutil.copytree(embedded[1], state)
    labels = '[{name: tumour, value: 2, color: "#ff0080"}, {name: organ, value: 1, color: "#00ff00"}]'
    with Server(embedded[0], state, "labels", labels) as server:
        server.wait_until_ready()
        yield server


@pytest.fixture
def server(running):
    """That server, nothing decided yet and five picks in each batch."""
    running.start_over()
    return running


@pytest.fixture
def state(embedded, tmp_path):
    """A copy of the embedded state, for a server of one's own."""
    return shutil.copytree(embedded[1], tmp_path / "state")


# -- what can be asked


def test_info_lists_strategies_and_labels(running):
    info = running.get("/info/")
    assert list(info["strategies"]) == ["firstpick", *sorted(set(STRATEGIES) - {"random"}), "random"]
    assert "kmeans" in info["strategies"]["firstpick"]["description"]
    assert all(len(row["description"]) > 20 for row in info["strategies"].values())
    assert info["labels"] == ["organ", "tumour"]
    assert info["label_values"] == {"organ": 1, "tumour": 2}
    assert info["label_colors"] == {"organ": [0, 255, 0], "tumour": [255, 0, 128]}
    assert info["datastore"]["total"] == 12


def test_the_routes_are_documented_with_their_types(running):
    api = running.get("/openapi.json")
    routes = [path for path in api["paths"] if path.startswith("/firstpick/")]
    asked = "status metrics proposal strategies encoders map"
    of_study = [f"{name}/{{study_id}}" for name in ("thumbnail", "series", "lookalikes", "notes", "labels", "label")]
    of_study += ["image/{study_id}/{series}", "lists/{list_name}"]
    told = "reserve heartbeat release skip unskip reopen"
    assert sorted(routes) == sorted(f"/firstpick/{name}" for name in [*f"{asked} {told}".split(), *of_study])
    answer = api["paths"]["/firstpick/proposal"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer["$ref"].endswith("/LiveProposal")
    assert {"rank", "study_id", "share", "reason", "status"} <= api["components"]["schemas"]["LivePick"][
        "properties"
    ].keys()


def test_every_route_is_in_the_readmes_table(running):
    paths = running.get("/openapi.json")["paths"]
    routes = [f"{method.upper()} {path}" for path in paths if path.startswith("/firstpick/") for method in paths[path]]
    readme = (APP / "README.md").read_text(encoding="utf-8").partition("\n## Routes\n")[2]  # drafts have a table apart
    assert sorted(re.findall(r"^\| `([A-Z]+ /firstpick/\S+)` \|", readme, re.MULTILINE)) == sorted(routes)


def test_the_map_has_every_study_once_with_the_ranks_of_the_batch(running):
    points = running.get("/firstpick/map")["points"]
    assert [point["study_id"] for point in points] == [f"study_{number:02d}.nii.gz" for number in range(12)]
    ranks = {point["study_id"]: point["rank"] for point in points if point["rank"]}
    assert ranks == {pick["study_id"]: pick["rank"] for pick in running.picks()}
    assert len({(point["x"], point["y"]) for point in points}) == 12


def test_the_map_says_which_pick_stands_for_each_study_and_who_closed_it(server):
    for strategy in ("", "random"):
        points = server.get("/firstpick/map", strategy=strategy)["points"]
        counts = Counter(point["stands_with"] for point in points)
        assert counts == {pick["study_id"]: pick["stands_for"] for pick in server.picks(strategy)}
    done, skipped = [pick["study_id"] for pick in server.picks()[:2]]
    server.upload(done, "alice")
    server.post("/firstpick/skip", study_id=skipped, client_id="bob", reason="metal")
    points = {point["study_id"]: point for point in server.get("/firstpick/map")["points"]}
    assert [points[done][key] for key in ("status", "client", "reason")] == ["done", "alice", ""]
    assert [points[skipped][key] for key in ("status", "client", "reason")] == ["skipped", "bob", "metal"]
    assert points[skipped]["stands_with"] in {pick["study_id"] for pick in server.picks()}


def test_the_stamp_of_a_study_tells_a_client_whether_it_has_the_same_file(running):
    info = running.get("/datastore/image/info", image="study_03.nii.gz")
    stat = Path(info["path"]).stat()
    assert info["stamp"] == f"{stat.st_size}-{stat.st_mtime_ns}"
    assert info["size"] == stat.st_size
    assert info["modality"] == ""


def test_a_thumbnail_is_a_png_and_an_unknown_one_404(running):
    picture = running.get("/firstpick/thumbnail/study_03.nii.gz")
    assert picture.headers["content-type"] == "image/png"
    assert picture.content.startswith(b"\x89PNG")
    assert "study_99" in running.get("/firstpick/thumbnail/study_99", 404)


def test_lookalikes_are_other_studies_and_an_unknown_one_404(running):
    found = running.get("/firstpick/lookalikes/study_03.nii.gz")
    assert found["study_id"] == "study_03.nii.gz"
    assert len(set(found["lookalikes"]) - {"study_03.nii.gz"}) == 5
    assert "study_99" in running.get("/firstpick/lookalikes/study_99", 404)


def test_names_of_strategies_and_encoders_are_described(running):
    assert {"kmeans", "random"} <= {row["name"] for row in running.get("/firstpick/strategies")}
    assert {"pixels", "dinov2-s"} <= {row["name"] for row in running.get("/firstpick/encoders")}


def test_the_batch_says_how_it_was_made(running):
    batch = running.get("/firstpick/proposal")
    assert batch["schema"] == 1
    assert [pick["rank"] for pick in batch["picks"]] == list(range(1, len(batch["picks"]) + 1))
    assert batch["provenance"]["fingerprint"] == running.status()["fingerprint"]
    assert sum(pick["share"] for pick in batch["picks"]) == pytest.approx(1)
    assert batch["coverage"] == sorted(batch["coverage"])


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/firstpick/proposal", {"batch_size": 0}, 422, "batch_size must be 1 or more; got 0"),
        ("/firstpick/proposal", {"batch_size": "many"}, 422, "batch_size"),
        ("/firstpick/proposal", {"seed": -1}, 422, "seed"),
        ("/firstpick/proposal", {"strategy": "kmeens"}, 404, "Did you mean 'kmeans'"),
        ("/firstpick/reserve", {"study_id": "nobody"}, 404, "'nobody' is not in the studies folder"),
        ("/firstpick/skip", {"study_id": "nobody", "reason": "?"}, 404, "'nobody' is not in the studies folder"),
        ("/activelearning/kmeens", {}, 404, "random"),
        ("/activelearning/firstpick", {"strategy": "kmeens"}, 404, "kmeens"),
        ("/activelearning/firstpick", {"strategy": ["kmeans"]}, 422, "body.strategy"),
    ],
)
def test_a_wrong_request_is_refused_with_a_text(running, path, body, status, text):
    assert text in str(running.post(path, status, **body))


@pytest.mark.parametrize("tag", ["../evil", "a/b", "..", ".hidden", "a\\b", "x" * 200])
def test_a_tag_that_leaves_the_labels_folder_is_refused(running, tag):
    before = set(running.state.parent.rglob("*"))
    assert "is not allowed" in running.upload("study_00.nii.gz", tag=tag, expect=400)
    assert {path for path in running.state.parent.rglob("*") if "evil" in path.name} == set()
    assert {path.name for path in set(running.state.parent.rglob("*")) - before} <= {"decisions.sqlite-wal"}


def test_what_cannot_be_saved_or_changed_is_refused_with_a_text(running):
    assert "'nobody'" in running.upload("nobody", expect=404)
    assert "has no label" in running.ask(
        "DELETE", "/datastore/label", 404, params={"id": "study_00.nii.gz", "tag": "final"}
    )
    for text in ("{not JSON", "[1, 2]", '{"seconds": NaN}'):
        bad = {"params": {"image": "study_00.nii.gz"}, "files": {"label": ("x.nii.gz", b"x")}, "data": {"params": text}}
        assert "must be a JSON object" in running.ask("PUT", "/datastore/label", 422, **bad)


# -- readers


def test_readers_get_the_picks_in_order_and_keep_theirs(server):
    ranked = [pick["study_id"] for pick in server.picks()]
    first = server.next_sample("alice")
    assert first["id"] == ranked[0]
    assert first["path"] == str((server.studies / ranked[0]).resolve())
    assert [pick["study_id"] for pick in first["firstpick"]["picks"]] == ranked
    assert first["firstpick"]["client"] == "alice"
    assert server.next_sample("bob")["id"] == ranked[1]
    assert server.next_sample("alice")["id"] == ranked[2]
    assert [(pick["status"], pick["client"]) for pick in server.picks()[:4]] == [
        ("reserved", "alice"),
        ("reserved", "bob"),
        ("reserved", "alice"),
        ("open", ""),
    ]
    nobody = [server.next_sample(client)["firstpick"]["client"] for client in ("admin", "user-xyz")]
    assert len(set(nobody)) == 2
    assert not {"admin", "user-xyz"} & set(nobody)
    assert server.next_sample() == {}
    assert len(server.status()["readers"]) == 4
    server.post("/reload")  # MONAI Label makes a new app then
    assert server.next_sample("carol") == {}
    assert [pick["status"] for pick in server.picks()] == ["reserved"] * 5


def test_heartbeat_and_release(server):
    study_id = server.picks()[0]["study_id"]
    until = server.post("/firstpick/reserve", study_id=study_id, client_id="alice")["until"]
    time.sleep(1.1)
    renewed = server.post("/firstpick/heartbeat", study_id=study_id, client_id="alice")
    assert renewed["until"] > until
    assert "in progress by alice" in server.post("/firstpick/heartbeat", 409, study_id=study_id, client_id="bob")
    assert "in progress by alice" in server.post("/firstpick/release", 409, study_id=study_id, client_id="bob")
    assert "in progress by alice" in server.post(
        "/firstpick/skip", 409, study_id=study_id, client_id="bob", reason="not mine"
    )
    assert server.post("/firstpick/release", study_id=study_id, client_id="alice")["status"] == "open"
    assert server.next_sample("bob")["id"] == study_id
    server.post("/firstpick/release", study_id=study_id, client_id="bob")
    assert server.post("/firstpick/reserve", study_id=study_id, client_id="carol")["client"] == "carol"


def test_requests_at_once_never_share_a_study(server):
    server.post("/firstpick/proposal", batch_size=12)
    given = []

    def ask(client):
        given.extend((server.next_sample(client).get("id"), client) for _ in range(5))

    threads = [threading.Thread(target=ask, args=(f"reader {number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(given) == 30
    pairs = {(study_id, client) for study_id, client in given if study_id}
    assert sorted(study_id for study_id, _ in pairs) == [f"study_{number:02d}.nii.gz" for number in range(12)]


# -- labels


def test_a_final_label_closes_the_study_and_a_draft_does_not(server):
    first = server.next_sample("alice")["id"]
    server.upload(first, "alice", tag="alice-draft")
    assert server.pick(first)["status"] == "reserved"
    label = server.mask(first)
    server.upload(first, "alice", content=label)
    done = server.pick(first)
    assert (done["status"], done["client"]) == ("done", "alice")
    second = server.next_sample("alice")["id"]
    assert second == server.picks()[1]["study_id"]
    assert (server.state / "datastore" / "labels" / "final" / first).read_bytes() == label

    server.upload(second, "bob")
    assert "done by bob" in server.post("/firstpick/heartbeat", 409, study_id=second, client_id="alice")
    assert server.status()["n_labelled"] == 2


def test_reopened_means_that_only_a_newer_label_counts(server):
    study_id = server.next_sample("alice")["id"]
    server.upload(study_id, "alice")
    assert server.post("/firstpick/reopen", study_id=study_id, client_id="bob")["status"] == "open"
    server.upload(study_id, "alice", tag="draft")
    witness = server.picks()[1]["study_id"]  # reopens with the next look at the folder
    server.upload(witness, "carol")
    server.ask("DELETE", "/datastore/label", params={"id": witness, "tag": "final"})
    wait_for(lambda: server.pick(witness)["status"] == "open")
    assert server.pick(study_id)["status"] == "open"
    server.upload(study_id, "bob")
    assert (server.pick(study_id)["status"], server.pick(study_id)["client"]) == ("done", "bob")


def test_a_deleted_label_reopens_the_study_even_if_it_came_in_two_formats(server):
    study_id = server.picks()[0]["study_id"]
    server.upload(study_id, "alice", name="label.nrrd")
    server.upload(study_id, "alice", name="label.nii.gz")
    server.ask("DELETE", "/datastore/label", params={"id": study_id, "tag": "final"})
    wait_for(lambda: server.pick(study_id)["status"] == "open", 10)
    assert server.next_sample("bob")["id"] == study_id


def test_labels_that_lay_in_the_studies_folder_count_from_the_first_batch(embedded, state, tmp_path):
    studies = shutil.copytree(embedded[0], tmp_path / "studies", copy_function=shutil.copy2)
    (studies / "labels" / "final").mkdir(parents=True)
    for number in range(0, 12, 2):
        (studies / "labels" / "final" / f"study_{number:02d}.nii.gz").write_bytes(b"before")
    with Server(studies, state, "batch_size", "12") as server:
        server.wait_until_ready()
        assert server.status()["n_labelled"] == 6
        assert [int(pick["study_id"][6:8]) % 2 for pick in server.picks()] == [1] * 6
        assert "no more unlabelled studies" in server.get("/firstpick/proposal")["note"]


# -- skipping, the next batch, the end


def test_a_skipped_pick_is_replaced_at_its_rank_and_can_come_back(server):
    before = server.picks()
    held = server.next_sample("alice", "random")["id"]
    skipped = next(pick for pick in before if pick["study_id"] != held)
    answer = server.post("/firstpick/skip", study_id=skipped["study_id"], client_id="alice", reason="metal")
    assert (answer["status"], answer["reason"], answer["client"]) == ("skipped", "metal", "alice")
    after = server.picks()
    new = after[skipped["rank"] - 1]
    assert new["replaces"] == skipped["study_id"]
    assert new["study_id"] not in {pick["study_id"] for pick in before} | {held}
    assert [pick["study_id"] for pick in after if pick != new] != []
    assert {pick["study_id"] for pick in after} - {new["study_id"]} == {
        pick["study_id"] for pick in before if pick != skipped
    }
    assert sum(pick["share"] for pick in after) == pytest.approx(1)
    assert skipped["study_id"] not in {pick["study_id"] for pick in server.picks("random")}
    assert server.status()["n_skipped"] == 1
    back = server.post("/firstpick/unskip", study_id=skipped["study_id"], client_id="alice")
    assert back["status"] == "open"
    assert [pick["study_id"] for pick in server.picks()] == [pick["study_id"] for pick in after]


def test_a_new_batch_keeps_reserved_picks_on_top(server):
    ranked = [pick["study_id"] for pick in server.picks()]
    server.post("/firstpick/reserve", study_id=ranked[3], client_id="bob")
    server.upload(ranked[0], "alice")
    batch = server.post("/firstpick/proposal", batch_size=4, seed=7, client_id="alice")
    assert batch["picks"][0]["study_id"] == ranked[3]
    assert batch["picks"][0]["client"] == "bob"
    assert ranked[0] not in {pick["study_id"] for pick in batch["picks"]}
    assert len(batch["picks"]) == 4
    assert batch["provenance"]["seed"] == 7
    assert [pick["study_id"] for pick in server.picks()] == [pick["study_id"] for pick in batch["picks"]]


def test_the_batch_of_another_strategy_is_made_when_it_is_first_asked_for(server):
    assert "is being made" in server.next_sample("alice", "ward", expect=503)

    def served():
        answer = requests.post(
            f"http://127.0.0.1:{server.port}/activelearning/ward", json={"client_id": "a"}, timeout=30
        )
        return answer.status_code == 200 and answer.json()

    assert wait_for(served)["firstpick"]["strategy"] == "ward"


def test_advice_rides_with_the_batch_it_was_asked_for(server):
    batch = server.post("/firstpick/proposal", batch_size=4, advice=True)
    assert 0 <= batch["advice"]["jaccard_bootstrap"] <= 1
    assert batch["advice"]["jaccard_chance"] == pytest.approx(16 / 12 / (8 - 16 / 12))
    assert server.get("/firstpick/proposal")["advice"] == batch["advice"]
    assert server.post("/firstpick/proposal", batch_size=4)["advice"] is None


def test_when_nothing_is_left_a_stock_client_gets_an_empty_answer(server):
    for number in range(11):
        server.upload(f"study_{number:02d}.nii.gz", "alice")
    server.post("/firstpick/skip", study_id="study_11.nii.gz", client_id="alice", reason="blurred")
    assert server.next_sample("alice") == {}
    assert "Nothing left to choose" in server.post("/firstpick/proposal", 409)


def test_if_all_was_done_before_the_first_batch_a_stock_client_gets_an_empty_answer(embedded, tmp_path):
    studies = tmp_path / "studies"
    shutil.copytree(embedded[0], studies, copy_function=os.link)
    for path in list(studies.iterdir())[:10]:
        path.unlink()
    (studies / "labels" / "final").mkdir(parents=True)
    for path in studies.glob("*.nii.gz"):
        (studies / "labels" / "final" / path.name).write_bytes(path.read_bytes())
    with Server(studies, tmp_path / "state") as server:
        wait_for(lambda: (server.answers() or {}).get("state") == "ready", what="the server")
        assert server.next_sample("alice") == {}
        assert "Nothing left to choose" in server.get("/firstpick/proposal", 409)


def test_with_auto_next_a_finished_batch_is_followed_by_another(embedded, state):
    with Server(embedded[0], state, "auto_next", "true", "rescan_s", "600", "batch_size", "2") as server:
        server.wait_until_ready()
        first = [pick["study_id"] for pick in server.picks()]
        for study_id in first:
            server.upload(study_id, "alice")
        second = wait_for(lambda: [p["study_id"] for p in server.picks() if p["study_id"] not in first], 20)
        assert len(second) == 2
        assert server.next_sample("alice")["id"] == second[0]


def test_the_server_keeps_to_the_configured_safeguards(embedded, state):
    conf = ("groups.by", "id:^study_(.)", "strata.by", "id:(.).nii.gz$", "strata.share", "equal", "batch_size", "2")
    with Server(embedded[0], state, *conf) as server:
        server.wait_until_ready()
        assert {pick["study_id"][6] for pick in server.picks()} == {"0", "1"}  # ten of one patient, two of another
        guards = server.get("/firstpick/proposal")["provenance"]["guards"]
        assert {
            "duplicates": 0.9995,
            "max_per_group": 1,
            "share": "equal",
            "outliers": "keep",
        }.items() <= guards.items()


# -- state that broke


def without_times(picks):
    """Picks without when their reservations end: while no server runs, none runs out."""
    return [pick | {"until": bool(pick["until"])} for pick in picks]


def test_everything_is_there_at_once_after_a_power_cut(server, tmp_path):
    server.upload("study_05.nii.gz", "alice")
    held = server.next_sample("bob")["id"]
    label = server.get("/datastore/label/info", label="study_05.nii.gz", tag="final")
    shutil.copytree(server.state, tmp_path / "state")
    with Server(server.studies, tmp_path / "state") as again:
        wait_for(again.answers)
        wait_for(lambda: again.status()["state"] == "ready", 10)
        assert len(again.workers()) <= 1  # the one that reads labels: nothing is embedded again
        assert without_times(again.picks()) == without_times(server.picks())
        assert again.pick(held)["client"] == "bob"
        assert again.status()["n_labelled"] == 1
        assert label["client_id"] == "alice"
        assert again.get("/datastore/label/info", label="study_05.nii.gz", tag="final") == label
        assert again.get("/datastore/")["completed"] == 1


def test_corrupt_state_is_set_aside_and_nothing_decided_is_lost(embedded, state):
    with Server(embedded[0], state) as server:
        server.wait_until_ready()
        server.upload("study_05.nii.gz", "alice")
        picks = server.picks()
    (state / "datastore" / "datastore_v2.json").write_text("{ rubbish")
    for name in ("cache.sqlite", "decisions.sqlite"):
        (state / name).write_bytes(b"{ rubbish" * 500)
        for journal in state.glob(f"{name}-*"):  # it would mend the file
            journal.unlink()
    with Server(embedded[0], state) as again:
        status = again.wait_until_ready()
        assert "decisions.sqlite was damaged or missing and was restored from its copy" in status["notice"]
        assert without_times(again.picks()) == without_times(picks)
        assert status["n_labelled"] == 1
        assert status["progress"]["done"] == 12
        assert again.get("/datastore/")["completed"] == 1
    assert len(list(state.rglob("*.corrupt-*"))) == 2


def test_state_of_a_newer_version_is_refused_in_one_sentence(embedded, state):
    with closing(sqlite3.connect(state / "decisions.sqlite")) as connection:
        connection.execute("pragma user_version = 99")
    with Server(embedded[0], state) as server:
        assert server.process.wait(timeout=60) != 0
        log = server.log.read_text()
    assert "decisions.sqlite was written by a newer FirstPick (schema 99; this one knows 2). Upgrade FirstPick" in log


# -- processes that are killed


def rows_of(state):
    with closing(sqlite3.connect(f"file:{state}/cache.sqlite?mode=ro", uri=True)) as connection:
        return {row[:3]: row[3] for row in connection.execute("select * from embeddings")}


def test_kill_minus_nine_half_way_loses_nothing_and_repeats_nothing(tmp_path):
    originals = write_studies(tmp_path / "originals", 8, size=64)
    studies = tmp_path / "studies"
    studies.mkdir()
    for number in range(96):
        (studies / f"copy_{number:03d}.nii.gz").hardlink_to(originals / f"study_{number % 8:02d}.nii.gz")
    with Server(studies, tmp_path / "state") as server:

        def half_way():
            status = server.answers()
            return status and status["progress"]["done"] >= 16 and status

        status = wait_for(half_way)
        assert status["state"] == "embedding"
        assert " of 96 done" in server.next_sample("alice", expect=503)
        assert " of 96 done" in server.get("/firstpick/proposal", 503)
        assert " of 96 done" in server.get("/firstpick/map", 503)
        partial = server.post("/firstpick/proposal", partial=True, batch_size=3)
        assert partial["partial"]
        assert 16 <= partial["n_pool"] < 96
        assert not [entry.path for entry in server.workers()[0].memory_maps() if "torch" in entry.path]
        server.workers()[0].kill()
        workers = server.workers()
        done_before = server.status()["progress"]["done"]
        server.kill()
        wait_for(lambda: not any(map(is_alive, workers)), 15)
    before = rows_of(tmp_path / "state")
    assert 16 <= done_before <= len(before) < 96
    with Server(studies, tmp_path / "state") as server:
        began = wait_for(lambda: (status := server.answers()) and status["progress"]["total"] and status)
        assert began["progress"]["done"] >= len(before)
        wait_for(server.workers, 30)[0].send_signal(signal.SIGKILL)
        assert server.wait_until_ready()["progress"]["done"] == 96
        assert server.status()["failed"] == []
    after = rows_of(tmp_path / "state")
    assert {study_id for _, study_id, _ in after} == {f"copy_{number:03d}.nii.gz" for number in range(96)}
    assert len(after) == 96
    assert {key: after[key] for key in before} == before


# -- other ways to start


def test_the_app_folder_works_where_firstpick_is_not_installed(embedded, tmp_path):
    """MONAI Label takes the app folder off the path after loading it; server and workers still find the package."""
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    site = next((tmp_path / "venv").rglob("site-packages"))
    packages = [Path(path) for path in sys.path if path.endswith("-packages")]
    (site / "all.pth").write_text("\n".join(map(str, packages)))
    for shim in (path / "distutils-precedence.pth" for path in packages):  # MONAI Label's distutils on Python 3.12
        if shim.exists():
            shutil.copy(shim, site)
    if not subprocess.run([python, "-c", "import firstpick"], check=False, capture_output=True).returncode:
        pytest.skip("firstpick is installed as a plain package here")
    shutil.copytree(APP, tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    command = [str(python), "-m", "monailabel.main", "start_server", "--app", str(tmp_path / "app")]
    conf = ("strategy", "random", "state_dir", str(tmp_path / "state"), "batch_size", "3")
    with Server(embedded[0], tmp_path / "state", *conf, command=command) as server:
        assert server.wait_until_ready()["progress"]["done"] == 12
        assert server.get("/info/")["strategies"]["firstpick"]["description"].endswith("(configured: random)")
        assert server.get("/firstpick/proposal")["strategy"] == "random"
        assert server.next_sample("alice")["id"] == server.picks()[0]["study_id"]
        assert "const page" in server.ask("GET", "/firstpick/page/parts.js").text


def test_with_slices_a_done_study_leaves_those_labelled_and_its_others_out(embedded, tmp_path):
    slices = ("unit", "slice", "views.planes", "[axial]", "views.every_mm", "3", "batch_size", "6")
    with Server(embedded[0], tmp_path / "state", *slices, "slices.min_distance_mm", "4") as server:
        assert server.wait_until_ready()["n_pool"] == 12
        assert len(server.get("/firstpick/map")["points"]) == 12
        batch = server.picks()
        assert sum(len(pick["slices"]) for pick in batch) == 6
        first = server.next_sample("alice")
        assert first["id"] == batch[0]["study_id"]
        assert first["firstpick"]["picks"][0]["slices"] == batch[0]["slices"]
        server.upload(batch[0]["study_id"], "alice")
        held, skipped = batch[1], batch[2]["study_id"]
        server.post("/firstpick/reserve", study_id=held["study_id"], client_id="bob")
        server.post("/firstpick/skip", study_id=skipped, client_id="bob", reason="poor quality")
        replaced = next(pick for pick in server.picks() if pick["replaces"] == skipped)
        assert replaced["slices"]
        again = server.post("/firstpick/proposal", batch_size=8)
        assert again["picks"][0]["study_id"] == held["study_id"]
        assert again["picks"][0]["slices"] == held["slices"]
        assert not {batch[0]["study_id"], skipped} & {pick["study_id"] for pick in again["picks"]}
        assert sum(len(pick["slices"]) for pick in again["picks"]) == 8
        assert again["n_labelled"] == 1
