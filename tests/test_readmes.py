"""The READMEs: what they point to is there, and what stands in them is what the code has."""

import itertools
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from markdown_it import MarkdownIt

from firstpick.cli import main
from firstpick.selection import STRATEGIES

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("monailabel_app", "sample_configs", "slicer_extension", "tests")
FOUND = (path for room in ROOMS for path in (ROOT / room).rglob("README.md"))
READMES = [ROOT / "README.md", *sorted(path for path in FOUND if path.parent.name != ".pytest_cache")]

SERVER = ROOT / "monailabel_app" / "README.md"

of_every_readme = pytest.mark.parametrize("readme", READMES, ids=lambda path: path.relative_to(ROOT).as_posix())


def parse(path):
    return MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8"))


def targets(path):
    """What links and pictures point to."""
    inner = [child for token in parse(path) for child in token.children or ()]
    return [child.attrGet("src" if child.type == "image" else "href") for child in inner if child.attrs]


def anchors(path):
    """The names by which GitHub lets one link to a file's headings."""
    tokens = parse(path)
    headings = [after.content for token, after in itertools.pairwise(tokens) if token.type == "heading_open"]
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def places(path):
    """The files of the repository that a README points to, each with its anchor."""
    for target in targets(path):
        url = urlsplit(target)
        if not url.scheme:
            yield target, (path.parent / unquote(url.path)).resolve() if url.path else path, url.fragment


@of_every_readme
def test_every_link_and_picture_is_there(readme):
    for target, place, anchor in places(readme):
        assert place.exists(), f"{target} is not there"
        assert place.is_relative_to(ROOT), f"{target} leads out of the repository"
        assert not anchor or anchor in anchors(place), f"{target}: {place} has no such heading"


@of_every_readme
def test_every_script_that_it_names_is_there(readme):
    scripts = re.findall(r"(?<![\w/])(?:tests|slicer_extension)/[\w/]+\.py\b", readme.read_text(encoding="utf-8"))
    assert [script for script in scripts if not (ROOT / script).is_file()] == []


def test_every_readme_is_reached_from_the_front_page():
    reached, ahead = set(), [ROOT / "README.md"]
    while ahead:
        path = ahead.pop()
        reached.add(path)
        ahead += [place for _, place, _ in places(path) if place.name == "README.md" and place not in reached]
    assert set(READMES) == reached


def test_the_commands_that_are_run_from_the_front_page_stand_there_once():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    patterns = re.findall(r"grep -E '(.+)' README\.md", (ROOT / ".ci" / "run").read_text(encoding="utf-8"))
    assert len(patterns) == 2
    for pattern in patterns:
        assert len([line for line in lines if re.search(pattern, line)]) == 1, pattern


def first_cells(path, heading):
    """What stands in the first column of each table under a heading, without the table's own first line."""
    section = re.split(rf"^#+ {re.escape(heading)}\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1]
    rows = re.findall(r"^\| (.*?) \|", re.split(r"^#", section, flags=re.MULTILINE)[0], flags=re.MULTILINE)
    return [cell.strip("`") for cell in rows[1:]]


def test_the_speed_of_every_strategy_is_told():
    assert first_cells(ROOT / "tests" / "benchmarks" / "README.md", "Choosing a batch") == sorted(STRATEGIES)


def test_every_benchmark_is_in_the_table_of_scripts():
    scripts = {path.name for path in (ROOT / "tests" / "benchmarks").glob("*.py")}
    assert set(first_cells(ROOT / "tests" / "benchmarks" / "README.md", "The scripts")) == scripts


def test_every_command_is_in_the_servers_table(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    commands = set(re.findall(r"^ {4}(\w+) ", capsys.readouterr().out, flags=re.MULTILINE))
    table = first_cells(SERVER, "Commands")
    assert {cell.split()[1] for cell in table} == commands
    assert len(table) == len(commands)


def test_the_front_page_is_short():
    assert len((ROOT / "README.md").read_bytes()) <= 12_000
