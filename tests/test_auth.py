"""With MONAI Label's authentication on: who may ask what, with tokens of an OpenID provider."""

import re
import socket
import time
from pathlib import Path

import pytest

pytest.importorskip("monailabel", reason="pip install 'firstpick[server]'")
requests = pytest.importorskip("requests", reason="pip install 'firstpick[server]'")

from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: E402 - comes with the server
from openid_provider import PASSWORD, Provider  # noqa: E402
from server_process import Server, wait_for, write_studies  # noqa: E402

pytestmark = pytest.mark.slow

STUDY = "study_00.nii.gz"
ROLES = ("user", "annotator", "admin", "reviewer")

OPEN = {("GET", "/firstpick/"), ("GET", "/firstpick/page/{name}"), ("GET", "/"), ("GET", "/docs")}
"""Pages without anything on them: they let people sign in, or tell of routes."""

of_reader = {"json": {"study_id": STUDY, "client_id": "alice"}}
note = {"data": {"info": '{"seen": true}'}}

ROUTES = {
    # what looks, and what takes, keeps or gives back: as MONAI Label's next sample
    ("GET", "/firstpick/status"): ("user", 200, {}),
    ("GET", "/firstpick/metrics"): ("user", 200, {}),
    ("GET", "/firstpick/proposal"): ("user", 200, {}),
    ("GET", "/firstpick/strategies"): ("user", 200, {}),
    ("GET", "/firstpick/encoders"): ("user", 200, {}),
    ("GET", "/firstpick/map"): ("user", 200, {}),
    ("GET", "/firstpick/thumbnail/{study_id:id}"): ("user", 200, {}),
    ("GET", "/firstpick/series/{study_id:id}"): ("user", 200, {}),
    ("GET", "/firstpick/image/{study_id:id}/{series}"): ("user", 200, {}),
    ("HEAD", "/firstpick/image/{study_id:id}/{series}"): ("user", 200, {}),
    ("GET", "/firstpick/lookalikes/{study_id:id}"): ("user", 200, {}),
    ("GET", "/firstpick/notes/{study_id:id}"): ("user", 200, {}),
    ("GET", "/firstpick/lists/{list_name}"): ("user", 200, {}),
    ("GET", "/firstpick/labels/{study_id:id}"): ("user", 200, {}),
    ("GET", "/firstpick/label/{study_id:id}"): ("user", 404, {"params": {"tag": "final"}}),
    ("POST", "/firstpick/reserve"): ("user", 200, of_reader),
    ("POST", "/firstpick/heartbeat"): ("user", 200, of_reader),
    ("POST", "/firstpick/release"): ("user", 200, of_reader),
    # what decides for everybody: as MONAI Label's label
    ("POST", "/firstpick/proposal"): ("annotator", 200, {"json": {"batch_size": 2}}),
    ("POST", "/firstpick/skip"): ("annotator", 200, {"json": {**of_reader["json"], "reason": "metal"}}),
    ("POST", "/firstpick/unskip"): ("annotator", 200, of_reader),
    ("POST", "/firstpick/reopen"): ("annotator", 200, of_reader),
    # MONAI Label's own routes that FirstPick answers in their place
    ("PUT", "/datastore/label"): ("annotator", 422, {"params": {"image": STUDY}, "files": {"label": b"no label"}}),
    ("POST", "/activelearning/{strategy}"): ("user", 404, {"json": {}}),
    ("HEAD", "/datastore/image"): ("user", 200, {"params": {"image": STUDY}}),
    ("GET", "/datastore/dataset"): ("annotator", 404, {}),
    ("PUT", "/datastore/image/info"): ("annotator", 200, {"params": {"image": STUDY}, **note}),
    ("PUT", "/datastore/label/info"): ("annotator", 404, {"params": {"label": STUDY, "tag": "final"}, **note}),
    ("PUT", "/datastore/updatelabelinfo"): ("annotator", 404, {"params": {"label": STUDY, "tag": "final"}}),
    ("GET", "/logs/"): ("admin", 200, {}),
    ("GET", "/logs/gpu"): ("admin", None, {}),
    ("POST", "/reload"): ("admin", 200, {}),
    ("POST", "/infer/{rest:id}"): ("user", 404, {}),
    ("POST", "/batch/infer/{rest:id}"): ("admin", 404, {}),
    ("POST", "/train/{rest:id}"): ("admin", 404, {}),
    ("POST", "/scoring/{rest:id}"): ("annotator", 404, {}),
    ("GET", "/model/{rest:id}"): ("admin", 404, {}),
    ("PUT", "/model/{rest:id}"): ("admin", 404, {}),
    ("DELETE", "/model/{rest:id}"): ("admin", 404, {}),
    ("GET", "/session/{rest:id}"): ("user", 404, {}),
    ("PUT", "/session/{rest:id}"): ("user", 404, {}),
    ("DELETE", "/session/{rest:id}"): ("user", 404, {}),
    ("GET", "/proxy/{rest:id}"): ("user", 404, {}),
    ("POST", "/proxy/{rest:id}"): ("user", 404, {}),
    ("GET", "/ohif/{rest:id}"): ("user", 404, {}),
    ("GET", "/datastore/"): ("user", 200, {}),
    ("PUT", "/datastore/"): ("annotator", 403, {}),
    ("PUT", "/datastore/image"): ("annotator", 403, {}),
    ("GET", "/firstpick/drafts"): ("user", 200, {}),
    ("GET", "/firstpick/draft/{study_id:id}"): ("user", 409, {}),
    ("POST", "/infer/firstpick_draft"): ("user", 409, {"params": {"image": STUDY}}),
    ("POST", "/train/firstpick_draft"): ("admin", 200, {}),
    ("POST", "/train/"): ("admin", 200, {}),
    ("GET", "/train/"): ("user", 200, {}),
}
"""Every route of ours: its role, what it answers to that role (None: depends on the machine), and what is sent."""

OF_MONAI_LABEL = {
    ("GET", "/info/"): ("user", 200, {}),
    ("GET", "/datastore/image"): ("user", 200, {"params": {"image": STUDY}}),
    ("DELETE", "/datastore/label"): ("admin", 404, {"params": {"id": STUDY, "tag": "final"}}),
    ("DELETE", "/train/"): ("admin", 200, {}),
}
"""Some of MONAI Label's own, whose tokens are checked here, too."""

of_every_route = pytest.mark.parametrize("route", sorted(ROUTES | OF_MONAI_LABEL), ids=" ".join)


def routes_of(router, prefix=""):
    """Methods and paths of a router and of those in it."""
    prefix += router.prefix
    for route in router.routes:
        inner = getattr(route, "original_router", None)  # newer FastAPI keeps routers whole
        if inner is not None:
            yield from routes_of(inner, prefix)
        else:
            path = route.path if route.path.startswith(prefix) else prefix + route.path
            yield from ((method, path) for method in getattr(route, "methods", ()))  # a mounted folder has none


@pytest.fixture(scope="module")
def provider():
    people = {role: (role,) for role in ROLES}
    with Provider(**people, reader=("user", "annotator"), nobody=()) as provider:
        yield provider


@pytest.fixture(scope="module")
def server(provider, tmp_path_factory):
    folder = tmp_path_factory.mktemp("auth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MONAI_LABEL_AUTH_ENABLE", "true")
        patch.setenv("MONAI_LABEL_AUTH_REALM_URI", provider.realm)
        server = Server(
            write_studies(folder / "studies", 4), folder / "state", "batch_size", "2", "drafts.enabled", "true"
        )
    with server:
        session = server.signed_in(provider.token("user"))
        wait_for(lambda: session.answers() and session.status()["state"] == "ready", what="the embedding")
        yield server


def send(server, route, token=""):
    """Ask a route, as whoever has the token; return the status."""
    method, path = route
    values = {"study_id": STUDY, "series": "study_00", "strategy": "unknown", "name": "page.js"}
    values["list_name"] = "failed"
    address = re.sub(r"{(\w+).*?}", lambda found: values.get(found[1], "x"), path)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    sent = (ROUTES | OF_MONAI_LABEL).get(route, ("", 200, {}))[2]
    answer = requests.request(method, f"http://127.0.0.1:{server.port}{address}", headers=headers, timeout=60, **sent)
    assert answer.status_code < 400 or method == "HEAD" or answer.json()["detail"]
    return answer.status_code


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # while MONAI Label is imported
def test_no_route_is_forgotten():
    from fastapi import FastAPI

    from firstpick.server.documentation import document
    from firstpick.server.draft_routes import make_draft_router
    from firstpick.server.draft_tasks import make_draft_stock_router
    from firstpick.server.routes import make_router
    from firstpick.server.stock import make_stock_router
    from firstpick.server.uploads import make_upload_router

    server = FastAPI(openapi_url=None)
    document(server)
    of_drafts = (make_draft_router(None), make_draft_stock_router(None))
    for router in (make_router(None, None), make_upload_router(None), make_stock_router(), *of_drafts):
        server.include_router(router)
    assert set(routes_of(server.router)) == ROUTES.keys() | OPEN


def test_no_route_that_is_documented_lets_anybody_in(server):
    paths = requests.get(f"http://127.0.0.1:{server.port}/openapi.json", timeout=30).json()["paths"]
    routes = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert len(routes) > 50
    let_in = {route for route in routes if send(server, route) != 401}
    assert let_in == {("GET", "/auth/"), ("POST", "/auth/token")}  # they tell where to sign in


def test_the_table_of_routes_names_their_roles():
    text = Path(__file__).parents[1].joinpath("monailabel_app", "README.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| `(\w+) (/firstpick\S*)` \| (\w+) \|", text, flags=re.MULTILINE))
    roles = {route: role for route, (role, _, _) in ROUTES.items()} | dict.fromkeys(OPEN, "none")
    ours = {(method, path.replace(":id", ""), role) for (method, path), role in roles.items() if "/firstpick/" in path}
    untold = {("GET", "/firstpick/page/{name}", "none"), ("HEAD", "/firstpick/image/{study_id}/{series}", "user")}
    assert told == ours - untold


@of_every_route
def test_without_a_token_nobody_is_let_in(server, route):
    assert send(server, route) == 401


@of_every_route
def test_each_other_role_is_refused(server, provider, route):
    right = (ROUTES | OF_MONAI_LABEL)[route][0]
    assert {send(server, route, provider.token(role)) for role in (*ROLES, "nobody") if role != right} == {403}


@of_every_route
def test_the_right_role_gets_the_answer(server, provider, route):
    role, status, _ = (ROUTES | OF_MONAI_LABEL)[route]
    assert send(server, route, provider.token(role)) in ({status} if status else {200, 404})


@pytest.mark.parametrize("route", sorted(OPEN), ids=" ".join)
def test_the_page_itself_is_open(server, route):
    assert send(server, route) == 200


@pytest.mark.parametrize(("role", "status"), [(None, b"401"), ("user", b"403")])
def test_who_may_not_send_a_label_is_told_before_sending_it(server, provider, role, status):
    token = f"Authorization: Bearer {provider.token(role)}\r\n" if role else ""
    head = f"PUT /datastore/label?image={STUDY} HTTP/1.1\r\nHost: 127.0.0.1\r\n{token}Content-Length: 1000000000\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(f"{head}Content-Type: multipart/form-data; boundary=B\r\n\r\n".encode())
        assert connection.recv(4096).split()[1] == status


# -- tokens

LOOK = ("GET", "/firstpick/status")


def test_a_token_counts_for_one_client_however_it_says_so(server, provider):
    for claims in ({}, {"azp": None, "aud": "monailabel-app"}, {"azp": None, "aud": ["account", "monailabel-app"]}):
        assert send(server, LOOK, provider.token("user", **claims)) == 200, claims


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": int(time.time()) - 3600},
        {"exp": None},
        {"nbf": int(time.time()) + 3600},
        {"iss": "http://127.0.0.1:1/realm"},
        {"iss": None},
        {"azp": "another-app"},
        {"azp": None, "aud": None},
    ],
    ids=str,
)
def test_a_token_that_is_old_or_of_or_for_somebody_else_is_refused(server, provider, claims):
    assert send(server, LOOK, provider.token("user", **claims)) == 401


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
def test_a_token_that_the_provider_did_not_sign_is_refused(server, provider, algorithm):
    assert send(server, LOOK, provider.forged("user", algorithm)) == 401


def test_a_token_signed_with_another_key_is_refused(server, provider):
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert send(server, LOOK, provider.token("user", key=key)) == 401
    assert send(server, LOOK, provider.token("user", key=key, kid="unheard-of")) == 401


@pytest.mark.parametrize("token", ["x", "a.b.c", "é.é.é", "." * 3000, "W1tb" * 3000 + ".W10.x"])
def test_what_is_no_token_is_refused(server, token):
    assert send(server, LOOK, token.encode().decode("latin-1")) == 401


@pytest.mark.parametrize(
    "roles", [None, 5, "monailabel-user", {"roles": "monailabel-user"}, {"roles": [5, None]}], ids=str
)
def test_roles_that_are_no_list_of_names_are_none(server, provider, roles):
    assert send(server, LOOK, provider.token("user", realm_access=roles)) == 403


def test_the_provider_is_not_asked_for_every_token(server, provider):
    send(server, LOOK, provider.token("user"))
    before = provider.n_asked
    for number in range(20):
        send(server, LOOK, provider.token("user", kid="first", jti=str(number)))
        send(server, LOOK, provider.token("user", key=provider.keys["first"], kid=f"unknown-{number}"))
    assert provider.n_asked - before <= 1


# -- signing in


def sign_in(server, name, password=PASSWORD):
    return requests.post(
        f"http://127.0.0.1:{server.port}/auth/token", {"username": name, "password": password}, timeout=30
    )


def test_a_name_and_a_password_give_a_token(server):
    token = sign_in(server, "reader").json()
    assert token.keys() == {"access_token", "token_type"}
    assert send(server, LOOK, token["access_token"]) == 200


@pytest.mark.parametrize("name", ["reader", "mallory", "\ud800", "x" * 10_000], ids=ascii)
def test_a_wrong_name_or_password_is_told_from_an_error(server, name):
    answer = sign_in(server, name.encode("utf-8", "surrogatepass"), "guess")
    assert answer.status_code == 401
    assert "Invalid user credentials" in answer.json()["detail"]


def test_whoever_signed_in_is_the_reader_where_no_name_is_given(server, provider):
    reader = server.signed_in(provider.token("reader"))
    first = wait_for(lambda: _sample(reader), what="the first sample")
    assert first["firstpick"]["client"] == "reader"
    reader.upload(first["id"])
    assert reader.pick(first["id"])["client"] == "reader"


def _sample(session):
    answer = requests.post(
        f"http://127.0.0.1:{session.port}/activelearning/firstpick",
        json={"client_id": "user-xyz"},
        headers=session.headers,
        timeout=30,
    )
    return answer.json() if answer.ok else None


def test_the_page_shows_all_to_who_signs_in_and_keeps_nothing(server, browser):
    tab = browser.new_page()
    trouble = []
    tab.on("pageerror", lambda error: trouble.append(str(error)))
    tab.goto(f"http://127.0.0.1:{server.port}/firstpick/")
    tab.get_by_text("This server wants to know who asks. Sign in.").wait_for()
    assert tab.locator("#content").is_hidden()
    tab.get_by_label("Name").fill("reader")
    tab.get_by_label("Password").fill("guess")
    tab.get_by_role("button", name="Sign in").click()
    tab.get_by_text("Invalid user credentials").wait_for()
    tab.get_by_label("Password").fill(PASSWORD)
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#sheet .card")
    tab.wait_for_function("[...document.querySelectorAll('#sheet img')].every((i) => i.naturalWidth === 160)")
    assert tab.locator("#sign-in").is_hidden()
    assert tab.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
    tab.reload()
    tab.get_by_text("This server wants to know who asks. Sign in.").wait_for()
    assert trouble == []
    tab.close()


# -- a provider that is away


def test_without_its_provider_the_server_says_so(tmp_path, monkeypatch, provider):
    monkeypatch.setenv("MONAI_LABEL_AUTH_ENABLE", "true")
    monkeypatch.setenv("MONAI_LABEL_AUTH_REALM_URI", "http://127.0.0.1:9/realm")
    with Server(write_studies(tmp_path / "studies", 1), tmp_path / "state") as server:
        session = server.signed_in(provider.token("user"))

        def answer():
            try:
                return send(server, LOOK, provider.token("user"))
            except requests.ConnectionError:
                return None

        assert wait_for(answer) == 503
        assert send(server, LOOK) == 401
        assert sign_in(server, "user").status_code == 503
        assert "OpenID provider" in session.get("/firstpick/status", 503)
