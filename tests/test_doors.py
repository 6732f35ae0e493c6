"""Who may reach the real server by a browser: from Chromium, through nginx, in a network with an address of its own."""

import contextlib
import ctypes
import importlib.util
import os
import re
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("monailabel", reason="pip install 'firstpick[server]'")
requests = pytest.importorskip("requests", reason="pip install 'firstpick[server]'")
trustme = pytest.importorskip("trustme", reason="pip install 'firstpick[test]'")

from server_process import Server, wait_for, write_studies  # noqa: E402 - needs requests

pytestmark = pytest.mark.slow

ADDRESS = "203.0.113.5"
PASSWORD = "correct horse"  # noqa: S105 - nobody's
SAMPLE = Path(__file__).parents[1] / "sample_configs" / "nginx.conf"
NEW_NETWORK = 0x40000000  # CLONE_NEWNET


def needed(what, found):
    """Skip what this machine cannot show; CI must."""
    if not found and not os.environ.get("CI"):
        pytest.skip(what)
    assert found, what
    return found


@pytest.fixture(scope="module", autouse=True)
def network():
    """A network of this thread's own, and of the processes that it starts: the loopback and one more address."""
    libc = ctypes.CDLL(None, use_errno=True)
    needed("a network of its own needs Linux, root and ip (Debian: apt-get install iproute2)", shutil.which("ip"))
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    needed("a network of its own needs root", libc.unshare(NEW_NETWORK) == 0)
    try:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        subprocess.run(["ip", "address", "add", f"{ADDRESS}/32", "dev", "lo"], check=True)
        yield
    finally:
        libc.setns(home, NEW_NETWORK)
        os.close(home)


@pytest.fixture(scope="module")
def running(site, tmp_path_factory):
    """A server that all the network reaches, with a name and one page elsewhere that may use it."""
    folder = tmp_path_factory.mktemp("doors")
    studies = write_studies(folder / "studies", 9)
    command = [sys.executable, "-m", "firstpick.cli", "serve", "--state", str(folder / "state"), "--host", "0.0.0.0"]  # noqa: S104
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MONAI_LABEL_CORS_ORIGINS", f'["http://viewer.example:{site.port}"]')
        server = Server(studies, folder / "state", "allowed_hosts", "reads.example", command=command)
    with server:
        server.wait_until_ready()
        yield server


@pytest.fixture
def server(running):
    running.start_over(batch_size=6)
    return running


@pytest.fixture(scope="module")
def nginx(running, tmp_path_factory):
    """The sample, for a reading room on this machine; on 8443 it passes no header on, on 9443 the room is elsewhere."""
    folder = tmp_path_factory.mktemp("nginx")
    found = needed("no nginx on this machine (Debian: apt-get install nginx)", shutil.which("nginx"))
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate = authority.issue_cert("reads.example", ADDRESS)
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "reads.pem")
    certificate.private_key_pem.write_to_path(folder / "reads.key")
    (folder / "readers").write_text(f"alice:{{PLAIN}}{PASSWORD}\n")
    sample = SAMPLE.read_text(encoding="utf-8")
    away = sample.replace("listen 443", "listen 9443")
    here = sample.replace("10.20.0.0/16;", f"127.0.0.1; allow {ADDRESS};")
    bare = re.sub(r" *proxy_set_header .*\n", "", here).replace("listen 443", "listen 8443")
    assert bare.count("\n") < here.count("\n")
    assert here != sample
    sites = (
        (here + bare + away).replace("/etc/nginx/", f"{folder}/").replace("127.0.0.1:8000", f"127.0.0.1:{running.port}")
    )
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"daemon off; user root; pid {folder}/pid; events {{}}\nhttp {{\naccess_log off;\n{paths}{sites}}}\n"
    )
    log = folder / "error.log"
    process = subprocess.Popen([found, "-e", str(log), "-c", str(configuration)])
    try:
        wait_for(lambda: all(map(connects, (443, 8443, 9443))), 20, "nginx")
        yield SimpleNamespace(log=log, ca=str(folder / "ca.pem"))
    finally:
        process.terminate()
        process.wait(timeout=20)


def connects(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True


class Elsewhere(socketserver.BaseRequestHandler):
    """An empty page of somebody else's; once its name leads to the server, whatever the server says."""

    def handle(self):
        self.server.seen.add(self.server.leads_to)
        if self.server.leads_to is None:
            self.request.recv(65536)
            page = b"<!doctype html><title>Elsewhere</title>"
            self.request.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n" + page)
            return
        with socket.create_connection(("127.0.0.1", self.server.leads_to)) as there:
            back = threading.Thread(target=self.pass_on, args=(there, self.request))
            back.start()
            self.pass_on(self.request, there)
            back.join()

    @staticmethod
    def pass_on(one, other):
        with contextlib.suppress(OSError):
            while some := one.recv(65536):
                other.sendall(some)
            other.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def site(network):
    """Somebody else's server, under all names of this machine."""

    class Site(socketserver.ThreadingTCPServer):
        allow_reuse_address = daemon_threads = True

    with Site(("0.0.0.0", 0), Elsewhere) as site:  # noqa: S104 - in a network of our own
        site.port = site.server_address[1]
        threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield site
        site.shutdown()


@pytest.fixture
def elsewhere(site):
    site.leads_to, site.seen = None, set()
    return site


@pytest.fixture
def open_tab(browser):
    contexts = []

    def open_tab(address):
        """Open a page, and keep what it asks for and what it gets."""
        context = browser.new_context(ignore_https_errors=True)
        contexts.append(context)
        tab = context.new_page()
        tab.requested, tab.answers = [], set()
        tab.on("request", lambda request: tab.requested.append(request.url))
        tab.on("response", lambda response: tab.answers.add(response.status))
        tab.goto(address)
        return tab

    yield open_tab
    for context in contexts:
        context.close()


# What a page can try, by every way there is. A reading succeeds if the page has what it asked for, a deed if the
# server has done it, which the page need not learn.
LOOT = """
async ({ base, wanted }) => {
  const soon = (started) => Promise.race([
    new Promise(started).catch(() => ""),
    new Promise((done) => setTimeout(() => done(""), 4000)),
  ]);
  const element = (tag, url, got, more = {}) => soon((done) => {
    const made = Object.assign(document.createElement(tag), { onload: () => done(got(made)), ...more });
    made.onerror = () => done("");
    made[tag === "link" ? "href" : "src"] = url;
    document.body.append(made);
  });
  const asked = (url, how) => soon((done) => fetch(url, how).then((answer) =>
    answer.ok ? answer.arrayBuffer().then((bytes) => done(new TextDecoder("latin1").decode(bytes))) : done(""),
    () => done("")));
  const ways = (url) => [
    asked(url), asked(url, { credentials: "include" }), asked(url, { mode: "no-cors" }),
    asked(url, { headers: { "X-Forwarded-Host": "localhost", "X-Forwarded-For": "127.0.0.1" } }),
    soon((done) => {
      const request = new XMLHttpRequest();
      request.onloadend = () => done(request.status === 200 ? request.responseText : "");
      request.open("GET", url);
      request.send();
    }),
    element("iframe", url, (frame) => frame.contentDocument?.body?.innerText ?? ""),
    element("img", url, (picture) => (picture.naturalWidth ? "picture" : "")),
    element("img", url, (picture) => (picture.naturalWidth ? "picture" : ""), { crossOrigin: "anonymous" }),
  ];
  const taken = {};
  for (const [what, [path, sign]] of Object.entries(wanted)) {
    const found = await Promise.all(ways(base + path));
    taken[what] = found.some((text) => text && (text.includes(sign) || text === "picture"));
  }
  return taken;
}
"""
DEEDS = """
async ({ base, skip, upload, mask, remove }) => {
  const skipping = JSON.stringify({ study_id: skip, client_id: "mallory", reason: "for fun" });
  const ways = [];
  const send = (path, how) => ways.push(fetch(base + path, how).catch(() => null));
  const json = { "Content-Type": "application/json" };
  send("/firstpick/skip", { method: "POST", body: skipping, headers: json });
  send("/firstpick/skip", { method: "POST", body: skipping, mode: "no-cors" });
  send("/firstpick/skip", { method: "POST", body: new Blob([skipping]), mode: "no-cors" });
  send("/firstpick/skip", { method: "POST", body: skipping, mode: "no-cors", referrerPolicy: "no-referrer" });
  navigator.sendBeacon(base + "/firstpick/skip", skipping);
  const form = document.createElement("form");
  const frame = Object.assign(document.createElement("iframe"), { name: "nowhere" });
  const field = Object.assign(document.createElement("input"), { name: skipping.slice(0, -1) + ',"x":"', value: '"}' });
  Object.assign(form, { method: "POST", enctype: "text/plain", action: base + "/firstpick/skip", target: "nowhere" });
  form.append(field);
  document.body.append(frame, form);
  form.submit();
  const label = new FormData();
  label.append("params", JSON.stringify({ client_id: "mallory" }));
  label.append("label", new Blob([new Uint8Array(mask)]), "label.nii.gz");
  const image = `/datastore/label?image=${encodeURIComponent(upload)}&tag=final`;
  for (const mode of ["cors", "no-cors"]) {
    send(image, { method: mode === "cors" ? "PUT" : "POST", body: label, mode });
  }
  send(`/datastore/label?id=${encodeURIComponent(remove)}&tag=final`, { method: "DELETE" });
  await Promise.all(ways);
  await new Promise((done) => setTimeout(done, 300));
}
"""


def loot(tab, base, server):
    """What of the studies a page gets hold of."""
    study_id = server.picks()[0]["study_id"]
    server.image(study_id)
    wanted = {
        "ids": ("/datastore/?output=all", "study_00"),
        "thumbnail": (f"/firstpick/thumbnail/{study_id}", "PNG"),
        "image": (f"/datastore/image?image={study_id}", "\x1f"),  # as gzip begins
        "log": ("/logs/?lines=500", "monailabel"),
    }
    return {what for what, is_taken in tab.evaluate(LOOT, {"base": base, "wanted": wanted}).items() if is_taken}


def deeds(tab, base, server):
    """What a page decides: it skips one study, labels another and deletes the label of a third."""
    skip, upload, remove = (pick["study_id"] for pick in server.picks()[:3])
    server.upload(remove, "alice")
    mask = list(server.mask(upload))
    tab.evaluate(DEEDS, {"base": base, "skip": skip, "upload": upload, "mask": mask, "remove": remove})
    status = {point["study_id"]: point["status"] for point in server.get("/firstpick/map")["points"]}
    labels = {
        study_id for study_id, study in server.get("/datastore/?output=all")["objects"].items() if study["labels"]
    }
    done = {"skip": status[skip] == "skipped", "upload": upload in labels, "delete": remove not in labels}
    return {what for what, is_done in done.items() if is_done}


ALL = {"ids", "thumbnail", "image", "log", "skip", "upload", "delete"}


@pytest.mark.parametrize("host", ["127.0.0.1", ADDRESS, "reads.example"])
def test_the_servers_own_page_can_do_all(server, open_tab, host):
    base = f"http://{host}:{server.port}"
    tab = open_tab(f"{base}/firstpick/")
    assert loot(tab, base, server) | deeds(tab, base, server) == ALL


@pytest.mark.parametrize(
    ("page", "target"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "127.0.0.1"),
        (ADDRESS, ADDRESS),
        ("other.example", ADDRESS),
        ("reads.example", "reads.example"),
    ],
)
def test_a_page_on_another_port_can_do_nothing(server, open_tab, elsewhere, page, target):
    tab, base = open_tab(f"http://{page}:{elsewhere.port}/"), f"http://{target}:{server.port}"
    assert loot(tab, base, server) | deeds(tab, base, server) == set()
    assert 403 in tab.answers


def test_a_page_under_a_name_that_now_leads_to_the_server_can_do_nothing(server, open_tab, elsewhere):
    tab = open_tab(f"http://rebound.example:{elsewhere.port}/")
    elsewhere.leads_to = server.port
    base = tab.evaluate("location.origin")  # for the browser, all that follows is of one origin
    assert loot(tab, base, server) | deeds(tab, base, server) == set()
    assert "allowed_hosts" in tab.evaluate("fetch('/firstpick/status').then((answer) => answer.text())")
    assert tab.answers == {200, 421}
    assert elsewhere.seen == {None, server.port}


def test_a_page_of_another_site_can_be_led_to_ours_by_a_link_and_cannot_frame_it(server, open_tab, elsewhere):
    base = f"http://127.0.0.1:{server.port}"
    for path in ("/firstpick", "/firstpick/"):
        tab = open_tab(f"http://other.example:{elsewhere.port}/")
        link = "(url) => document.body.append(Object.assign(document.createElement('a'), {href: url, innerText: 'go'}))"
        tab.evaluate(link, base + path)
        tab.get_by_text("go").click()
        tab.wait_for_selector("#sheet li img")
        assert tab.url == f"{base}/firstpick/"
    tab = open_tab(f"http://other.example:{elsewhere.port}/")
    for path in ("/firstpick/", "/docs", "/firstpick/strategies"):
        framed = "(url) => document.body.append(Object.assign(document.createElement('iframe'), {src: url}))"
        tab.evaluate(framed, base + path)
    tab.wait_for_timeout(1500)
    texts = [frame.evaluate("document.documentElement.textContent") for frame in tab.frames[1:]]
    assert len(texts) == 3
    assert [text for text in texts if "FirstPick" in text or "kmeans" in text] == []


def test_the_page_of_an_allowed_origin_can(server, open_tab, elsewhere):
    tab, base = open_tab(f"http://viewer.example:{elsewhere.port}/"), f"http://{ADDRESS}:{server.port}"
    assert loot(tab, base, server) == {"ids", "thumbnail", "image", "log"}
    assert deeds(tab, base, server) == {"skip", "upload", "delete"}


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_the_documentation_loads_nothing_from_elsewhere(running, open_tab, path):
    trouble = []
    tab = open_tab(f"http://{ADDRESS}:{running.port}/firstpick/strategies")
    tab.on("console", lambda message: trouble.append(message.text))
    tab.on("pageerror", lambda error: trouble.append(str(error)))
    tab.goto(f"http://{ADDRESS}:{running.port}{path}")
    tab.get_by_text("/firstpick/proposal").first.wait_for()
    tab.get_by_text("/datastore/label").first.wait_for()
    tab.get_by_text("/firstpick/strategies").first.click()
    tab.get_by_text("Try it out").click()
    tab.get_by_text("Execute", exact=True).click()
    tab.get_by_text("kmeans").first.wait_for()
    assert {url.split("/")[2] for url in tab.requested if not url.startswith("data:")} == {f"{ADDRESS}:{running.port}"}
    assert trouble == []


# -- behind nginx


@pytest.mark.parametrize("port", [443, 8443])
def test_the_page_works_behind_nginx_whether_or_not_it_passes_the_name_on(server, nginx, open_tab, port):
    base = "https://reads.example" + (f":{port}" if port != 443 else "")
    tab = open_tab(f"{base}/firstpick/")
    tab.wait_for_selector("#sheet li img")
    assert loot(tab, base, server) | deeds(tab, base, server) == ALL, nginx.log.read_text()


@pytest.mark.parametrize("port", [443, 8443])
def test_behind_nginx_other_pages_and_names_can_do_nothing(server, nginx, open_tab, elsewhere, port):
    tab, base = open_tab(f"http://other.example:{elsewhere.port}/"), f"https://reads.example:{port}"
    assert loot(tab, base, server) | deeds(tab, base, server) == set()
    assert 403 in tab.answers
    for path in ("/", "/firstpick/status"):
        answer = requests.get(
            f"https://{ADDRESS}:{port}{path}", headers={"Host": "rebound.example"}, verify=nginx.ca, timeout=9
        )
        assert answer.status_code == 421


def test_who_is_not_in_the_reading_rooms_logs_in(server, nginx):
    def ask(**more):
        named = {"headers": {"Host": "reads.example:9443"}, "verify": nginx.ca, "timeout": 9}
        return requests.get(f"https://{ADDRESS}:9443/firstpick/status", **named, **more)

    assert ask().status_code == 401
    assert ask(auth=("alice", "wrong")).status_code == 401
    assert ask(auth=("alice", PASSWORD)).json()["state"] == "ready"


# -- clients that are no browsers


def plugins_client():
    """The client of MONAI Label's plugin for 3D Slicer, out of its folder."""
    path = Path(sys.prefix, "monailabel", "plugins", "slicer", "MONAILabel", "MONAILabelLib", "client.py")
    spec = importlib.util.spec_from_file_location("slicer_plugin_client", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.MONAILabelClient


def own_client():
    from monailabel.client import MONAILabelClient

    return MONAILabelClient


@pytest.mark.filterwarnings("ignore:'cgi' is deprecated", "ignore:unclosed:ResourceWarning")  # theirs
@pytest.mark.parametrize("client", [own_client, plugins_client])
@pytest.mark.parametrize(
    "address", ["http://127.0.0.1", f"http://{ADDRESS}", "http://HOSTNAME", "https://nginx", "https://bare"]
)
def test_both_clients_of_monai_label_work(server, nginx, tmp_path, monkeypatch, client, address):
    at = address.replace("HOSTNAME", socket.gethostname()) + f":{server.port}"
    at = {"https://nginx": "https://reads.example", "https://bare": "https://reads.example:8443"}.get(address, at)
    known = socket.getaddrinfo
    here = {"reads.example", socket.gethostname()}
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *more, **also: known("127.0.0.1" if host in here else host, *more, **also)
    )
    client = client()(at, tmpdir=str(tmp_path), client_id="carol")
    assert "kmeans" in client.info()["strategies"]
    study_id = client.next_sample("firstpick", {})["id"]
    label = tmp_path / "label.nii.gz"
    label.write_bytes(server.mask(study_id))
    assert client.save_label(study_id, str(label), tag="final", params={"label_info": []})["label"] == study_id
    assert server.pick(study_id)["status"] == "done"
    assert study_id in client.datastore()["objects"]
    assert Path(client.download_label(study_id, "final")).read_bytes() == label.read_bytes()
