"""Who may reach the server by a browser, rule by rule; test_doors.py has real browsers, proxies and networks."""

import socket

import pytest

pytest.importorskip("monailabel", reason="pip install 'firstpick[server]'")

from fastapi import FastAPI, Response
from fastapi.middleware import Middleware
from fastapi.middleware.cors import CORSMiddleware
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from firstpick.config import ConfigError, load_config
from firstpick.origins import host_name, network, origin
from firstpick.server.security import guard, machine_names

READERS = "10.1.2.3"


def made(**conf):
    """Answer requests as MONAI Label does, with leave for every page of the web, behind the rules."""
    server = FastAPI(
        middleware=[Middleware(CORSMiddleware, allow_origins=["*"], allow_credentials=True, allow_methods=["*"])]
    )
    for path in ("/", "/docs", "/firstpick", "/firstpick/", "/firstpick/thumbnail/a", "/datastore/", "/logs/"):
        server.get(path)(lambda: "told")
    for path in ("/firstpick/skip", "/reload"):
        server.post(path)(lambda: "done")
    server.put("/datastore/label")(lambda: "done")
    server.delete("/datastore/label")(lambda: "done")

    @server.get("/broken")
    def broken():
        raise RuntimeError

    guard(server, load_config(None, conf))
    return server


def ask(method, path, headers, *, server=None, peer=READERS, address="http://10.1.2.9:8000"):
    client = TestClient(server or made(), base_url=address, client=(peer, 50000), raise_server_exceptions=False)
    return client.request(method, path, headers=headers, follow_redirects=False)


# -- names


@pytest.mark.parametrize(
    "host",
    [
        "10.1.2.9",
        "10.1.2.9:8000",
        "127.0.0.1",
        "[::1]:8000",
        "[fe80::1]",
        "localhost:8000",
        "LOCALHOST.",
        socket.gethostname(),
        socket.gethostname().partition(".")[0].upper(),
        socket.getfqdn(),
        "reads.example:8443",
        "Reads.Example.",
        "public.example",
    ],
)
def test_the_server_answers_to_its_own_names_and_to_addresses(host):
    server = made(allowed_hosts=["reads.example"], public_url="https://public.example")
    assert ask("GET", "/datastore/", {"Host": host}, server=server).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "10.1.2.9.evil.example",
        "localhost.evil.example",
        "evil-localhost",
        "sub.reads.example",
        "reads.example@evil.example",
        "evil.example/reads.example",
        "reads.example, evil.example",
        "reads.example evil.example",
        "evil.example:80000",
        "0x7f.1.evil",
        "a" * 5000,
        "",
        "..",
        "[::1",
        "::1:x",
        "\xff",
    ],
)
def test_any_other_name_gets_421_with_the_key_to_set(host):
    server = made(allowed_hosts=["reads.example"])
    for method, path in [("GET", "/"), ("GET", "/datastore/"), ("POST", "/firstpick/skip"), ("OPTIONS", "/reload")]:
        answer = ask(method, path, [(b"Host", host.encode("latin-1"))], server=server)
        assert answer.status_code == 421
        assert "allowed_hosts" in answer.json()["detail"]
        assert len(answer.json()["detail"]) < 600


def test_the_machines_names_are_short_and_full(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "GPU1.ward.example")
    monkeypatch.setattr(socket, "getfqdn", lambda: "gpu1.hospital.example")
    assert machine_names() == {"localhost", "gpu1", "gpu1.ward.example", "gpu1.hospital.example"}


def test_a_host_that_a_page_forges_as_a_proxys_opens_nothing():
    """A page under a name that leads to the reader's own machine may send any header but Host and Origin."""
    forged = {"Host": "evil.example:8000", "X-Forwarded-Host": "localhost", "X-Forwarded-For": "127.0.0.1"}
    assert ask("GET", "/datastore/", forged, peer="127.0.0.1").status_code == 421
    forged = {"Host": "127.0.0.1:8000", "X-Forwarded-Host": "evil.example"}
    forged |= {"Origin": "http://evil.example"}
    assert ask("POST", "/reload", forged, peer="127.0.0.1").status_code == 421


# -- pages

OTHERS = [
    {"Origin": "http://evil.example"},
    {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "http://10.1.2.9:9000", "Sec-Fetch-Site": "same-site"},
    {"Origin": "http://10.1.2.9"},
    {"Origin": "https://10.1.2.9:8000"},
    {"Origin": "null"},
    {"Origin": "null", "Sec-Fetch-Site": "none"},
    {"Origin": ""},
    {"Origin": "chrome-extension://abcdefgh", "Sec-Fetch-Site": "none"},
    {"Origin": "http://10.1.2.9:8000.evil.example"},
    {"Origin": "http://10.1.2.9:8000@evil.example"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "something-new"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
]
ROUTES = [
    ("GET", "/"),
    ("GET", "/firstpick/thumbnail/a"),
    ("GET", "/datastore/"),
    ("GET", "/logs/"),
    ("POST", "/firstpick/skip"),
    ("POST", "/reload"),
    ("PUT", "/datastore/label"),
    ("DELETE", "/datastore/label"),
]


@pytest.mark.parametrize("headers", OTHERS, ids=str)
def test_a_page_of_another_site_gets_nothing(headers):
    server = made()
    for method, path in [*ROUTES, ("HEAD", "/"), ("OPTIONS", "/datastore/label"), ("GET", "/nowhere")]:
        answer = ask(method, path, headers, server=server)
        assert answer.status_code == 403, (method, path)
        assert not {name for name in answer.headers if name.startswith("access-control")}
        assert method == "HEAD" or "allowed_origins" in answer.json()["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://10.1.2.9:8000"},
        {"Origin": "http://10.1.2.9:8000"},
        {"Origin": "http://10.1.2.9:8000", "Sec-Fetch-Site": "none"},
        {"Host": "LOCALHOST:80", "Origin": "http://localhost"},
    ],
    ids=str,
)
def test_our_own_pages_and_what_is_no_browser_get_all(headers):
    server = made()
    for method, path in ROUTES:
        assert ask(method, path, headers, server=server).status_code == 200, (method, path)


def test_a_link_of_another_site_may_lead_to_a_page_and_to_nothing_else():
    follows = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    server = made()
    for path in ("/", "/docs", "/firstpick", "/firstpick/"):
        assert ask("GET", path, follows, server=server).status_code == 200
    for path in ("/datastore/", "/firstpick/thumbnail/a", "/logs/", "/nowhere", "/firstpick//"):
        assert ask("GET", path, follows, server=server).status_code == 403
    assert ask("POST", "/firstpick/", follows, server=server).status_code == 403
    assert ask("POST", "/firstpick/skip", follows | {"Origin": "null"}, server=server).status_code == 403


def test_other_pages_may_if_the_configuration_says_so():
    server = made(allowed_origins=["https://Viewer.example:443", "http://10.1.2.9:9000"])
    for page in ("https://viewer.example", "http://10.1.2.9:9000"):
        headers = {"Origin": page, "Sec-Fetch-Site": "cross-site"}
        for method, path in ROUTES:
            answer = ask(method, path, headers, server=server)
            assert answer.status_code == 200
            assert answer.headers["access-control-allow-origin"] == page
            assert answer.headers["access-control-allow-credentials"] == "true"
        wants = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "content-type"}
        answer = ask("OPTIONS", "/datastore/label", headers | wants, server=server)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == page
    for page in ("http://viewer.example", "https://viewer.example:8443", "https://sub.viewer.example", "null"):
        assert ask("GET", "/datastore/", {"Origin": page}, server=server).status_code == 403
    assert ask("GET", "/datastore/", {"Sec-Fetch-Site": "cross-site"}, server=server).status_code == 403


# -- behind a proxy

OUTSIDE = {"Origin": "https://reads.example:8443"}
BEHIND = {"X-Forwarded-Host": "reads.example:8443", "X-Forwarded-Proto": "https"}


@pytest.mark.parametrize(
    ("conf", "headers", "peer", "status"),
    [
        ({}, {}, "127.0.0.1", 403),
        ({"public_url": "https://reads.example:8443/"}, {}, "127.0.0.1", 200),
        ({"public_url": "https://reads.example:8443"}, {}, "10.9.9.9", 200),
        ({"public_url": "https://reads.example"}, {}, "127.0.0.1", 403),
        ({}, BEHIND, "127.0.0.1", 421),
        ({"allowed_hosts": ["reads.example"]}, BEHIND, "127.0.0.1", 200),
        ({"allowed_hosts": ["reads.example"]}, BEHIND, "::1", 200),
        ({"allowed_hosts": ["reads.example"]}, BEHIND, "::ffff:127.0.0.1", 200),
        ({"allowed_hosts": ["reads.example"]}, BEHIND, "10.9.9.9", 403),
        ({"allowed_hosts": ["reads.example"], "trusted_proxies": ["10.9.0.0/16"]}, BEHIND, "10.9.9.9", 200),
        ({"allowed_hosts": ["reads.example"], "trusted_proxies": ["10.9.0.0/16"]}, BEHIND, "127.0.0.1", 403),
        ({"allowed_hosts": ["reads.example"], "trusted_proxies": []}, BEHIND, "127.0.0.1", 403),
        ({"allowed_hosts": ["reads.example"]}, BEHIND, "nobody", 403),
        (
            {"allowed_hosts": ["reads.example"]},
            {"X-Forwarded-Host": "evil.example, reads.example:8443", "X-Forwarded-Proto": "http, https"},
            "127.0.0.1",
            200,
        ),
        ({"allowed_hosts": ["reads.example"]}, BEHIND | {"X-Forwarded-Proto": "\\"}, "127.0.0.1", 403),
        (
            {"allowed_hosts": ["reads.example"]},
            {"Host": "reads.example:8443", "X-Forwarded-Proto": "https"},
            "127.0.0.1",
            200,
        ),
        (
            {"allowed_hosts": ["reads.example"]},
            {"Host": "reads.example:8443", "Sec-Fetch-Site": "same-origin"},
            "10.9.9.9",
            200,
        ),
    ],
)
def test_our_own_origin_is_the_one_that_browsers_use(conf, headers, peer, status):
    assert ask("POST", "/firstpick/skip", OUTSIDE | headers, server=made(**conf), peer=peer).status_code == status


# -- answers


def test_every_answer_is_kept_out_of_other_pages():
    server = made()
    for path, status in [("/", 200), ("/nowhere", 404), ("/broken", 500)]:
        answer = ask("GET", path, {}, server=server)
        assert answer.status_code == status
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["content-security-policy"] == "frame-ancestors 'none'"
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert ask("GET", "/", OTHERS[0], server=server).headers["cross-origin-resource-policy"] == "same-origin"


def test_a_page_with_a_policy_of_its_own_keeps_it():
    policy, server = "default-src 'none'; frame-ancestors 'none'", made()
    server.get("/page")(lambda: Response(headers={"Content-Security-Policy": policy}))
    assert ask("GET", "/page", {}, server=server).headers["content-security-policy"] == policy


def test_no_websocket_is_opened():
    with pytest.raises(WebSocketDisconnect), TestClient(made()).websocket_connect("/datastore/"):
        pass


# -- the keys


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("allowed_hosts", "https://reads.example", "allowed_hosts[0]: must be the name of a host"),
        ("allowed_hosts", "*", "allowed_hosts[0]: must be the name of a host"),
        ("allowed_origins", "*", "allowed_origins[0]: must be an address"),
        ("allowed_origins", "[https://a.example, 'null']", "allowed_origins[1]: must be an address"),
        ("allowed_origins", "https://a.example/page", "allowed_origins[0]: must be the name of a host"),
        ("public_url", "reads.example", "public_url: must be an address"),
        ("public_url", "https://reads.example/sub", "public_url: must be the name of a host"),
        ("trusted_proxies", "proxy.example", "trusted_proxies[0]: must be an IP address or network"),
        ("trusted_proxies", "10.0.0.0/33", "trusted_proxies[0]: must be an IP address or network"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused(key, value, text):
    with pytest.raises(ConfigError) as refused:
        load_config(None, {key: value})
    assert text in str(refused.value)


def test_names_and_origins_are_compared_as_browsers_write_them():
    assert [host_name(name) for name in ("A.b.:80", "[::1]:1", "10.0.0.1.", "müller.example")] == [
        "a.b",
        "::1",
        "10.0.0.1",
        "xn--mller-kva.example",
    ]
    assert [origin(text) for text in ("HTTP://A.b.:80/", "https://a:443", "https://a:80", "http://[::1]:80")] == [
        "http://a.b",
        "https://a",
        "https://a:80",
        "http://[::1]",
    ]
    assert network(" 10.1.2.3/16") == "10.1.0.0/16"
