"""The page in a real browser: as a file with the network off, and live on the real server."""

import json
import os
import re
from io import BytesIO

import numpy as np
import pytest
from oddities import dicom
from PIL import Image
from server_process import Server, wait_for, write_studies

from firstpick.board.board import Status
from firstpick.proposal import propose
from firstpick.report import page_data, report_page
from firstpick.studies import LeftOut, Pool, Sample, Study

pytestmark = pytest.mark.slow  # each test opens a browser

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    '"><svg onload=alert(1)>',
    "<b>bold</b>&amp;<a href='javascript:alert(1)'>a</a>",
    "sub/%2e%2e?#x$tail",
)
LEFT, RIGHT = "ArrowLeft", "ArrowRight"


def title_of(study_id):
    """Another name than the id, but for names that are markup: those are titles, too."""
    return study_id.replace("study_", "Knee/T1 sag ")


def png(study_id, series=""):
    out = BytesIO()
    Image.new("L", (160, 160), 60 + sum(f"{study_id}{series}".encode()) % 190).save(out, "PNG")
    return out.getvalue()


def of_series(study_id, *names):
    """A study of several series."""
    series = tuple(Study(f"{study_id}/{name}", "", "", name=name) for name in names)
    return Study(study_id, "", "", title_of(study_id), series=series)


def write_page(path, n_studies, *, names=(), batch_size=4, max_pictures=5000, series=(), n_left_out=1):
    """Write the page of a pool in two groups of three studies each patient; return its data."""
    rng = np.random.default_rng(0)
    ids = sorted([*names, *(f"study_{number:05d}" for number in range(n_studies - len(names)))])
    centres = np.where(np.arange(n_studies)[:, None] % 2, [3.0, 0, 0, 0], [0, 3.0, 0, 0])
    vectors = (centres + rng.normal(0, 0.4, (n_studies, 4))).astype(np.float32)
    groups = tuple(f"hash{number // 3}" for number in range(n_studies))
    titles = tuple(map(title_of, ids))
    pool = Pool(tuple(Sample(study_id) for study_id in ids), vectors, groups, titles=titles)
    batch = propose(
        pool,
        strategy="kmeans",
        batch_size=batch_size,
        labelled=ids[5:6],
    )
    lists = {
        "failed": [LeftOut("1.2.8-0a1b2c", "The file is empty.", "Broken one")],
        "left_out": [LeftOut(f"1.2.9{n}-0a1b2c", "A localizer.", "Knee scout") for n in range(n_left_out)],
    }
    statuses = {ids[5]: Status("done", "alice"), batch.picks[0].study_id: Status("reserved", "bob")}
    lists["studies"] = {study_id: of_series(study_id, *series) for study_id in ids} if series else {}
    data = page_data(batch, pool, statuses, png, **lists, notes={}, groups_are_patients=True, max_pictures=max_pictures)
    path.write_text(report_page(data), encoding="utf-8")
    return data


@pytest.fixture
def open_page(browser):
    """Open an address and keep what goes wrong; nothing may."""
    contexts, trouble = [], []

    def open_page(address, *, offline=False, **options):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
        contexts.append(context)
        context.set_offline(offline)
        tab = context.new_page()
        tab.requested = []
        tab.on("request", lambda request: tab.requested.append(request.url))
        tab.on("console", lambda message: trouble.append(message.text) if message.type != "log" else None)
        tab.on("pageerror", lambda error: trouble.append(str(error)))
        tab.on("dialog", lambda dialog: (trouble.append(dialog.message), dialog.dismiss()))
        tab.goto(address)
        tab.wait_for_selector("#map .scatterlayer .point, #map .scatterlayer path.point", state="attached")
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert trouble == []


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("small") / "report.html"
    return path.as_uri(), write_page(path, 20)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "report.html"
    return path.as_uri(), write_page(path, 5000, batch_size=20)


@pytest.fixture(params=["small", "large"])
def written(request):
    """Address and data of a page with 20 and with 5,000 studies."""
    return request.getfixturevalue(request.param)


def until(tab, expression):
    """Wait until something is true; the page's policy keeps Playwright from asking within it."""
    wait_for(lambda: tab.wait_for_timeout(20) or tab.evaluate(expression), 10, expression)


def place_of(tab, row):
    """Where a study of the map is in the window."""
    tab.locator("#map").scroll_into_view_if_needed()
    box = tab.locator("#map .scatterlayer .trace").first.locator("path.point").nth(row).bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def loneliest(data):
    """The row that is farthest from all others on the map, and not on its edge."""
    places = np.array([(point["x"], point["y"]) for point in data["map"]["points"]])
    gaps = np.linalg.norm(places[:, None] - places[None], axis=2) + np.eye(len(places)) * 9
    return int(gaps.min(axis=1).argmax())


def visible_cards(tab):
    return [card.text_content() for card in tab.locator("#sheet li:visible .name").all()]


# -- as a file


def test_the_file_shows_the_batch_without_a_network(written, open_page):
    address, data = written
    tab = open_page(address, offline=True)
    assert [url for url in tab.requested if not url.startswith("data:")] == [address]
    picks = data["proposal"]["picks"]
    assert visible_cards(tab) == [title_of(pick["study_id"]) for pick in picks]
    assert tab.locator("#sheet .card").first.get_attribute("title") == picks[0]["study_id"]
    assert tab.locator("#sheet .card").first.get_attribute("data-study") == picks[0]["study_id"]
    first = tab.locator("#sheet li").first
    assert first.locator(".rank").text_content() == "1"
    assert first.locator(".reason").text_content() == picks[0]["reason"]
    assert first.locator(".status").text_content() == "◆reserved · bob"
    assert all(
        tab.evaluate("[...document.querySelectorAll('#sheet img')].map((i) => i.complete && i.naturalWidth === 160)")
    )
    n_points = len(data["map"]["points"])
    assert tab.locator("#map .scatterlayer .trace").first.locator("path.point").count() == n_points
    assert f"{len(picks)} of {n_points:,} studies by kmeans" in tab.locator("#summary").text_content()
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_hovering_a_point_shows_its_picture_and_a_click_its_lookalikes(written, open_page):
    address, data = written
    tab = open_page(address, offline=True)
    row = loneliest(data)
    study_id = data["map"]["points"][row]["study_id"]
    x, y = place_of(tab, row)
    tab.mouse.move(x - 40, y - 40)
    tab.mouse.move(x, y)
    tab.wait_for_selector("#hover img")
    assert tab.locator("#hover b").text_content() == title_of(study_id)
    assert tab.locator("#hover img").get_attribute("src") == data["pictures"][study_id]
    tab.mouse.click(x, y)
    tab.wait_for_selector("#panel .alike img")
    assert tab.locator("#panel-title").text_content() == title_of(study_id)
    assert tab.locator("#panel-title").get_attribute("title") == study_id
    shown = [name.text_content() for name in tab.locator("#panel .alike span").all()]
    pick = next((pick for pick in data["proposal"]["picks"] if pick["study_id"] == study_id), {})
    nearest = [data["map"]["points"][other]["study_id"] for other in data["lookalikes"][study_id]]
    alike = pick.get("lookalikes") or nearest
    assert shown == [title_of(other) for other in alike]
    assert [one.get_attribute("data-study") for one in tab.locator("#panel .alike").all()] == list(alike)
    tab.locator("#panel .alike").first.click()
    assert tab.locator("#panel-title").text_content() == shown[0]
    assert tab.locator("#map .main-svg").first.bounding_box()["width"] <= 1280 - 330
    tab.keyboard.press("Escape")
    assert tab.locator("#panel").is_hidden()


def test_a_map_of_very_many_studies_is_painted_and_each_can_be_chosen(tmp_path, open_page):
    path = tmp_path / "report.html"
    data = write_page(path, 10_001)
    tab = open_page(path.as_uri(), offline=True)
    tab.locator("#map").scroll_into_view_if_needed()
    at = """(row) => { const [across, down] = pixels(), point = page.data.map.points[row];
        const canvas = document.querySelector("#map > canvas"), { left, top } = canvas.getBoundingClientRect();
        const [x, y] = [across(point.x), down(point.y)];
        const copy = new OffscreenCanvas(1, 1).getContext("2d");
        copy.drawImage(canvas, -x * devicePixelRatio, -y * devicePixelRatio);
        return [left + x, top + y, copy.getImageData(0, 0, 1, 1).data[3]]; }"""
    assert tab.locator("#map .scatterlayer path.point").count() < 20
    assert tab.get_by_label("Colour and shape by").count() == 0  # no shape is seen
    assert tab.get_by_label("Colour by").count() == 1
    row = max(range(10_001), key=lambda row: data["map"]["points"][row]["x"])  # nothing lies beyond it
    for _ in ("as a whole", "after a zoom"):
        x, y, alpha = tab.evaluate(at, row)
        assert alpha > 150
        tab.mouse.move(x + 2, y)
        assert tab.locator("#hover b").text_content() == data["map"]["points"][row]["title"]
        tab.mouse.move(x, y)
        tab.mouse.wheel(0, -100)
        tab.wait_for_timeout(400)
    x, y, _ = tab.evaluate(at, row)
    tab.mouse.click(x, y)
    assert tab.locator("#panel-title").text_content() == data["map"]["points"][row]["title"]


def test_the_filters_narrow_cards_and_map(written, open_page):
    address, data = written
    tab = open_page(address, offline=True)
    picks = data["proposal"]["picks"]
    opacity = "document.getElementById('map').data[0].marker.opacity.filter((o) => o > 0.5).length"
    assert tab.evaluate(opacity) == len(data["map"]["points"])
    tab.get_by_role("button", name="reserved (1)").click()
    assert visible_cards(tab) == [title_of(picks[0]["study_id"])]
    assert tab.evaluate(opacity) == 1
    assert tab.locator("#found").text_content() == "1 study found"
    tab.get_by_role("button", name="skipped (0)").click()
    assert tab.locator("#no-picks").is_visible()
    tab.get_by_role("button", name="all (").click()
    for text in (picks[1]["study_id"].upper(), picks[1]["title"].upper()):
        tab.get_by_label("Find a study").fill(text)
        assert visible_cards(tab) == [picks[1]["title"]]
        assert tab.evaluate(opacity) == 1
    tab.get_by_label("Find a study").fill("")
    of_pick_2 = sum(point["nearest_pick"] == 2 for point in data["map"]["points"])
    entry = tab.get_by_role("button", name=f"like pick 2 ({of_pick_2:,})")
    entry.click()
    assert tab.evaluate(opacity) == of_pick_2
    assert entry.get_attribute("aria-pressed") == "true"
    entry.click()
    assert tab.evaluate(opacity) == len(data["map"]["points"])


def test_colours_come_with_shapes_and_groups_can_be_coloured(small, open_page):
    address, data = small
    tab = open_page(address, offline=True)
    styles = "((m) => m.color.map((c, i) => c + m.symbol[i]))(document.getElementById('map').data[0].marker)"
    by_pick = {}
    for point, style in zip(data["map"]["points"], tab.evaluate(styles), strict=True):
        by_pick.setdefault(point["nearest_pick"], set()).add(style)
    assert all(len(found) == 1 for found in by_pick.values())
    assert len({style[7:] for found in by_pick.values() for style in found}) == len(by_pick) == 4  # shapes alone do
    choices = tab.locator("#colour-by option").all_text_contents()
    assert choices == ["pick it is most like", "status", "group"]
    tab.get_by_label("Colour and shape by").select_option("group")
    assert len(set(tab.evaluate(styles))) == 7
    assert "patient 1 (3)" in tab.locator("#legend").text_content()
    tab.get_by_label("Colour and shape by").select_option("status")
    shapes = {
        point["status"]: style[7:] for point, style in zip(data["map"]["points"], tab.evaluate(styles), strict=True)
    }
    assert shapes == {"open": "circle", "reserved": "diamond", "done": "square"}


def test_everything_can_be_reached_with_the_keyboard(small, open_page):
    address, data = small
    tab = open_page(address, offline=True)
    first, second = (pick["title"] for pick in data["proposal"]["picks"][:2])
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    tab.keyboard.press("Enter")
    tab.keyboard.press("Tab")
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    assert tab.locator("#panel-title").text_content() == second
    assert tab.evaluate("document.activeElement.id") == "panel"
    tab.keyboard.press("Escape")
    assert second in tab.evaluate("document.activeElement.textContent")
    for _ in range(40):
        if tab.evaluate("document.activeElement.id") == "map":
            break
        tab.keyboard.press("Tab")
    tab.keyboard.press(RIGHT)
    assert tab.locator("#panel-title").text_content() == first
    places = {point["title"]: point for point in data["map"]["points"]}
    went = [first]
    for key in (RIGHT, LEFT, LEFT, "ArrowUp", "ArrowDown"):
        tab.keyboard.press(key)
        went.append(tab.locator("#panel-title").text_content())
        here, before = places[went[-1]], places[went[-2]]
        if went[-1] != went[-2]:
            moved = {RIGHT: here["x"] > before["x"], LEFT: here["x"] < before["x"]}
            moved |= {"ArrowUp": here["y"] > before["y"], "ArrowDown": here["y"] < before["y"]}
            assert moved[key]
    assert len(set(went)) > 2
    assert went[-1] in tab.locator("#announcer").text_content()
    span = "((r) => r[1] - r[0])(document.getElementById('map').layout.xaxis.range)"
    whole = tab.evaluate(span)
    tab.keyboard.press("+")
    until(tab, f"{span} < {whole * 0.7}")
    tab.keyboard.press("0")
    until(tab, f"Math.abs({span} - {whole}) < 1e-6")


def test_the_wheel_and_the_buttons_zoom(small, open_page):
    tab = open_page(small[0], offline=True)
    span = "((r) => r[1] - r[0])(document.getElementById('map').layout.xaxis.range)"
    whole = tab.evaluate(span)
    tab.get_by_role("button", name="Zoom in").click()
    until(tab, f"{span} < {whole * 0.7}")
    tab.get_by_role("button", name="Show all").click()
    until(tab, f"Math.abs({span} - {whole}) < 1e-6")
    tab.mouse.move(*place_of(tab, 0))
    tab.mouse.wheel(0, -200)
    until(tab, f"{span} < {whole}")


def test_what_failed_was_left_out_or_is_unusual_is_listed_with_its_reason(small, open_page):
    address, data = small
    tab = open_page(address, offline=True)
    for title, texts in {
        "Could not be read 1": ["Broken one", "The file is empty."],
        "Left out 1": ["Knee scout", "A localizer."],
        f"Unusual: unlike most others {len(data['proposal']['unusual'])}": map(title_of, data["proposal"]["unusual"]),
    }.items():
        tab.locator("summary", has_text=re.compile(f"^{title}$")).click()
        shown = tab.locator("#lists").text_content()
        assert all(text in shown for text in texts)
    assert tab.get_by_text("The file is empty.").is_visible()
    assert tab.get_by_text("Broken one").get_attribute("title") == "1.2.8-0a1b2c"


def test_a_long_list_is_unfolded_in_parts(tmp_path, open_page):
    path = tmp_path / "report.html"
    write_page(path, 20, n_left_out=2001)
    tab = open_page(path.as_uri(), offline=True)
    unfold(tab, "Left out", 2001)


def unfold(tab, title, n):
    """Open a list of 2,001 and have all of it shown, by mouse and by keyboard."""
    part = tab.locator("#lists details", has_text=title)
    part.locator("summary").click()
    assert part.locator("summary").text_content() == f"{title} {n:,}"
    assert part.locator("li").count() == 1000
    part.get_by_role("button", name="Show more: 1,001 are not shown").click()
    part.get_by_role("button", name="Show more: 1 are not shown").press("Enter")
    until(tab, f"document.querySelectorAll('#lists details[open] li').length === {n}")
    assert part.get_by_role("button", name="Show more").count() == 0


def test_the_curve_says_in_words_what_it_shows(small, open_page):
    address, data = small
    text = open_page(address, offline=True).locator("#curve-text").text_content()
    assert f"4 picks cover {100 * data['proposal']['coverage'][-1]:.0f} % of the pool" in text
    assert data["proposal"]["outlook"]["text"] in text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_without_scrolling_sideways(small, open_page, scheme):
    phone = {"width": 390, "height": 844}
    tab = open_page(small[0], offline=True, viewport=phone, is_mobile=True, has_touch=True, color_scheme=scheme)
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    assert (tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(250, 249, 247)") == (
        scheme == "light"
    )
    row = loneliest(small[1])
    tab.touchscreen.tap(*place_of(tab, row))
    tab.wait_for_selector("#panel .alike")
    assert tab.locator("#panel-title").text_content() == small[1]["map"]["points"][row]["title"]
    box = tab.locator("#panel").bounding_box()
    assert box["x"] == 0
    assert box["width"] == 390
    tab.get_by_role("button", name="Close").click()
    assert tab.locator("#panel").is_hidden()


def test_paper_is_white_has_no_controls_and_all_lists(small, open_page):
    tab = open_page(small[0], offline=True, color_scheme="dark")
    tab.emulate_media(media="print")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.evaluate("document.getElementById('map').layout.font.color") == "#1b1b1d"
    assert tab.locator(".bar:visible").count() == 0
    assert tab.get_by_text("The file is empty.").is_visible()
    assert tab.locator("#map .main-svg").first.bounding_box()["width"] == 680
    assert tab.pdf().startswith(b"%PDF")
    tab.emulate_media(media="screen")
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tab.evaluate("document.getElementById('map').layout.font.color") == "#eeeeec"


def test_names_that_are_markup_stay_text(tmp_path, open_page):
    data = write_page(tmp_path / "report.html", 12, names=HOSTILE, batch_size=11)
    tab = open_page((tmp_path / "report.html").as_uri(), offline=True)
    elements = (
        "[document.scripts.length, document.querySelectorAll('svg svg, #sheet svg, b > b, a[href^=javascript]').length]"
    )
    before = tab.evaluate(elements)
    picked = [pick["title"] for pick in data["proposal"]["picks"]]
    assert set(HOSTILE) & set(picked)
    assert visible_cards(tab) == picked
    for point in data["map"]["points"]:
        tab.evaluate("(id) => choose(id)", point["study_id"])
        assert tab.locator("#panel-title").text_content() == point["title"]
        assert tab.locator("#panel-title").get_attribute("title") == point["study_id"]
    tab.keyboard.press("Escape")
    tab.mouse.move(*place_of(tab, loneliest(data)))
    tab.wait_for_selector("#hover b")
    assert tab.locator("#hover b b, #hover a, #sheet b, #sheet a").count() == 0
    assert tab.evaluate(elements) == before
    assert tab.title() == "FirstPick: which studies to annotate first"


def test_the_file_shows_all_series_of_picks_and_of_any_other_study(tmp_path, open_page):
    names = ("t1", "<b>t2</b>", "constructor")
    data = write_page(tmp_path / "report.html", 20, series=names)
    tab = open_page((tmp_path / "report.html").as_uri(), offline=True)
    assert data["proposal"]["picks"][0]["series"] == list(names)
    first = tab.locator("#sheet .card").first
    assert first.locator(".series").all_text_contents() == list(names)
    assert first.locator(".series img").count() == 3
    assert len({image.get_attribute("src") for image in first.locator(".series img").all()}) == 3
    tab.mouse.click(*place_of(tab, loneliest(data)))
    panel = tab.locator("#panel .series")
    wait_for(lambda: tab.wait_for_timeout(20) or panel.all_text_contents() == list(names), 10)
    assert tab.locator("#panel .series img").count() == 3


def test_the_file_cannot_reach_a_network_even_if_it_wanted_to(small, browser):
    tab = browser.new_page()
    tab.goto(small[0])
    outcome = tab.evaluate("fetch('http://127.0.0.1:9/').then(() => 'fetched', () => 'refused')")
    assert outcome == "refused"
    refusals = "new Promise((done) => { addEventListener('securitypolicyviolation', (e) => done(e.violatedDirective));"
    assert tab.evaluate(
        refusals + " document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/x'})) })"
    )
    tab.close()


# -- live


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    pytest.importorskip("monailabel", reason="pip install 'firstpick[server]'")
    folder = tmp_path_factory.mktemp("live")
    studies = write_studies(folder / "studies", 12)
    (studies / "study_11.nii.gz").rename(studies / "<img src=x onerror=alert(1)>#?%41&.nii.gz")
    (studies / "broken.nii.gz").write_bytes(b"")
    with Server(studies, folder / "state", "batch_size", "11") as server:
        yield server


def test_the_servers_page_follows_the_work(server, open_page):
    wait_for(server.answers)
    tab = open_page(f"http://127.0.0.1:{server.port}/firstpick")  # even before all is embedded
    home = f"http://127.0.0.1:{server.port}/firstpick/"
    assert tab.url == home
    assert all(url.startswith((home, "data:")) or url == home[:-1] for url in tab.requested)
    picks = server.picks()
    assert visible_cards(tab) == [pick["study_id"] for pick in picks]
    assert "<img src=x onerror=alert(1)>#?%41&.nii.gz" in visible_cards(tab)
    until(tab, "[...document.querySelectorAll('#sheet img')].every((i) => i.naturalWidth === 160)")
    first, second, third = (pick["study_id"] for pick in picks[:3])
    state = tab.locator("#sheet li").first.locator(".status")
    server.post("/firstpick/reserve", study_id=first, client_id="alice")
    tab.get_by_text("reserved · alice").wait_for()
    server.upload(first, "alice")
    tab.get_by_text("done · alice").wait_for()
    assert state.text_content() == "■done · alice"
    assert tab.locator("#announcer").text_content() == f"{first} is now done"
    assert "1 labelled" in tab.locator("#summary").text_content()
    server.post("/firstpick/skip", study_id=second, client_id="bob", reason="metal")
    until(tab, f"!document.getElementById('sheet').textContent.includes({second!r})")
    assert visible_cards(tab) == [pick["study_id"] for pick in server.picks()]
    tab.locator("#sheet .card", has_text=third).click()
    tab.wait_for_selector("#panel .alike img")
    tab.locator("summary", has_text="Could not be read").click()
    assert tab.get_by_text("broken.nii.gz is empty (0 bytes).").is_visible()


def test_the_servers_page_tells_what_each_reader_did_and_what_is_to_be_known_of_the_log(tmp_path, open_page):
    studies = write_studies(tmp_path / "studies", 5)
    conf = ("batch_size", "3", "readers_per_study", "2")
    alice, bob = "Dr. Alicia-Maria Example-Longname", "<b>bob</b>"
    with Server(studies, tmp_path / "state", *conf) as server:
        server.wait_until_ready()
        first, second, third = (pick["study_id"] for pick in server.picks())
        mask = ("label.nii.gz", server.mask(first))
        for study_id, client in ((first, alice), (first, bob), (second, alice)):
            label = {"data": {"params": json.dumps({"client_id": client, "seconds": 400})}}
            server.ask("PUT", "/datastore/label", params={"image": study_id}, files={"label": mask}, **label)
        server.upload(third)  # nobody says who drew it
        server.post("/firstpick/reserve", study_id=third, client_id=bob)
    (server.state / "decisions.sqlite").unlink()
    with Server(studies, server.state, *conf) as again:
        again.wait_until_ready()
        phone = {"viewport": {"width": 390, "height": 844}}
        tab = open_page(f"http://127.0.0.1:{again.port}/firstpick/", **phone)
        assert "decisions are known up to 20" in tab.locator("#notice").text_content()
        lines = [f"{bob} 1 done, 7 min, 1 in progress", f"{alice} 2 done, 13 min"]
        assert [line.text_content() for line in tab.locator("#readers li").all()] == lines
        states = [f"■done · {alice}, {bob}", f"●open · read by {alice}", f"◆reserved · {bob}"]
        assert [state.text_content() for state in tab.locator("#sheet .status").all()] == states
        tab.locator("summary", has_text=re.compile("^Labels of no reader 1$")).click()
        assert tab.locator("#lists details[open] [data-study]").get_attribute("data-study") == third
        assert tab.evaluate("document.documentElement.scrollWidth") == 390
        tab.locator("#sheet .card").first.click()
        assert tab.locator("#panel .status").bounding_box()["width"] <= 390
        again.post("/firstpick/release", study_id=third, client_id=bob)
        until(
            tab,
            "document.getElementById('readers').textContent.includes('7 min') && "
            "!document.getElementById('readers').textContent.includes('progress')",
        )
        tab.close()  # before the server, which it goes on asking


def test_the_servers_page_shows_lookalikes_of_any_study(server, open_page):
    server.wait_until_ready()
    tab = open_page(f"http://127.0.0.1:{server.port}/firstpick/")
    for point in server.get("/firstpick/map")["points"]:
        tab.evaluate("(id) => choose(id)", point["study_id"])
        assert tab.locator("#panel-title").text_content() == point["study_id"]
        until(tab, "[...document.querySelectorAll('#panel img')].every((i) => i.naturalWidth === 160)")
        assert tab.locator("#panel .alike").count() > 0


def test_the_servers_page_asks_for_the_rest_of_a_long_list(tmp_path, open_page):
    folder = write_studies(tmp_path / "studies", 4)
    for number in range(2001):
        (folder / f"broken_{number:04d}.png").write_bytes(b"no picture")
    with Server(folder, tmp_path / "state", "batch_size", "2") as server:
        server.wait_until_ready()
        assert len(server.status()["failed"]) == 1000
        tab = open_page(f"http://127.0.0.1:{server.port}/firstpick/")
        unfold(tab, "Could not be read", 2001)
        names = tab.locator("#lists details[open] li [title]").evaluate_all("nodes => nodes.map((node) => node.title)")
        assert names == [f"broken_{number:04d}.png" for number in range(2001)]
        tab.close()


def test_the_servers_page_shows_the_series_of_any_study(tmp_path, open_page):
    studies = write_studies(tmp_path / "studies", 8)
    for number in range(8):
        (studies / f"study_{number:02d}.nii.gz").rename(studies / f"case{number // 2}_000{number % 2}.nii.gz")
    with Server(studies, tmp_path / "state", "batch_size", "1", "series.by", "nnunet", "duplicates", "0") as server:
        server.wait_until_ready()
        (pick,) = server.picks()
        tab = open_page(f"http://127.0.0.1:{server.port}/firstpick/")
        until(tab, "document.querySelectorAll('#sheet .series').length === 2")
        assert tab.locator("#sheet .series").all_text_contents() == ["0000", "0001"]
        until(tab, "[...document.querySelectorAll('#sheet .series img')].every((image) => image.naturalWidth > 0)")
        points = [point["study_id"] for point in server.get("/firstpick/map")["points"]]
        other = next(row for row, study_id in enumerate(points) if study_id != pick["study_id"])
        tab.mouse.click(*place_of(tab, other))
        until(tab, "document.querySelectorAll('#panel .series').length === 2")
        until(tab, "[...document.querySelectorAll('#panel .series img')].every((image) => image.naturalWidth > 0)")
        tab.close()


def test_the_servers_page_tells_of_drafts_where_there_are_any(tmp_path, open_page):
    pytest.importorskip("monailabel", reason="pip install 'firstpick[server]'")
    conf = ("drafts.enabled", "true", "drafts.ahead", "1", "drafts.min_dice", "0", "stop.last", "1", "stop.dice", "0")
    with Server(write_studies(tmp_path / "studies", 8), tmp_path / "state", *conf) as server:
        server.wait_until_ready()
        tab = open_page(f"http://127.0.0.1:{server.port}/firstpick/")
        tab.get_by_text("Drafts begin with 2 final labels; there is none yet.").wait_for()
        assert tab.get_by_text("No study that had a draft was submitted yet.").is_visible()
        picks = [pick["study_id"] for pick in server.picks()]
        for study_id in picks[:2]:
            server.upload(study_id, "alice")
        wait_for(lambda: server.get("/firstpick/drafts")["drafts"], 90, "a draft")
        tab.locator("#drafts-text", has_text="from 2 labels").wait_for()
        server.upload(picks[2], "alice")
        wait_for(lambda: server.get("/firstpick/drafts")["corrections"], 90, "the comparison")
        tab.locator("#drafts-stop", has_text="drafts to check, or stop here").wait_for()
        tab.wait_for_selector("#corrections .point", state="attached")
        tab.close()


def test_the_servers_page_runs_no_script_but_its_own(server):
    wait_for(server.answers)
    answer = server.ask("GET", "/firstpick/")
    assert "script-src 'self';" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    for name in re.findall(r'(?:src|href)="(page/[^"]+)"', answer.text):
        assert server.ask("GET", f"/firstpick/{name}").headers["content-security-policy"]
    assert "secret.py" in server.get("/firstpick/page/secret.py", 404)


def test_the_page_stays_when_the_server_cannot_be_reached(server, browser):
    server.wait_until_ready()
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(f"http://127.0.0.1:{server.port}/firstpick/")
    tab.get_by_text("Live: statuses change here").wait_for()
    context.set_offline(True)
    tab.get_by_text("The server does not answer.").wait_for()
    assert tab.locator("#sheet .card").count() > 0
    context.set_offline(False)
    tab.get_by_text("Live: statuses change here").wait_for()
    context.close()


OF_OBJECTS = ("constructor", "__proto__", "hasOwnProperty", "toString", "1e400")


def test_studies_with_the_names_of_what_every_object_has_are_as_any_other(tmp_path, open_page):
    path = tmp_path / "report.html"
    write_page(path, 12, names=OF_OBJECTS, batch_size=3, max_pictures=3)
    tab = open_page(path.as_uri(), offline=True)
    for name in OF_OBJECTS:
        tab.evaluate("(id) => choose(id)", name)
        until(tab, f"document.getElementById('panel-title').textContent === '{name}'")
        assert not tab.locator("#panel-body .hint").all_text_contents()[1:]


def test_on_the_server_too(tmp_path, open_page):
    """A file without ending is a study by its content: its id is such a name."""
    for name in OF_OBJECTS:
        pixels = np.random.default_rng(len(name)).integers(0, 4000, (64, 64), np.uint16)
        tags = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1", "Modality": "DX", "PatientID": f"P-{name}"}
        dicom(tmp_path / "studies" / name, pixels, **tags)
    (tmp_path / "studies" / os.fsdecode(b"M\xfcller \xed\xa0\x80")).write_bytes(b"x")
    with Server(tmp_path / "studies", tmp_path / "state", "batch_size", "3") as server:
        server.wait_until_ready()
        assert {point["study_id"] for point in server.get("/firstpick/map")["points"]} == {*OF_OBJECTS}
        assert any("not UTF-8" in item["reason"] for item in server.status()["left_out"])
        for name in OF_OBJECTS:
            server.get(f"/firstpick/lookalikes/{name}")
            server.get(f"/firstpick/thumbnail/{name}")
            assert server.get("/datastore/image/info", image=name)["name"]
            server.image(name)
            server.post("/firstpick/reserve", study_id=name, client_id=name)
            server.post("/firstpick/skip", study_id=name, client_id=name, reason=name)
        tab = open_page(f"http://127.0.0.1:{server.port}/firstpick/")
        for name in OF_OBJECTS:
            tab.evaluate("(id) => choose(id)", name)
            until(tab, f"document.getElementById('panel-title').textContent === '{name}'")
            until(tab, "document.querySelectorAll('#panel .alike').length > 0")
        tab.close()
