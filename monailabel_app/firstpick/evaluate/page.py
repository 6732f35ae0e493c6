"""What a comparison leaves behind: CSV, Markdown, figures and one page that needs no other file."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from firstpick.evaluate.figures import describe, figures_of
from firstpick.evaluate.run import Outcome
from firstpick.evaluate.summary import summarise
from firstpick.evaluate.tables import markdown, sections, write_headroom, write_results, write_summary

READING = (
    "Mean ± standard deviation over the splits; in brackets the paired difference to random with its 95 % interval "
    "(corrected resampled t-test, Nadeau & Bengio 2003); * where it is not 0 with p < .05 by Holm's correction over "
    "the arms of one table and column. Area: mean height of the curve over the logarithm of the number of labels."
)
READING_WITHOUT_TESTS = (
    "Mean ± standard deviation over the splits; in brackets the difference to random. Shown as an example, without "
    "intervals and tests: the studies are too few, or too much alike, for them."
)
MASKS = (
    "Dice and the 95 % Hausdorff distance (mm; pixels for pictures) of a label are means over the test studies where "
    "the reference or the prediction has it. Where one of the two lacks it, Dice is 0 and the distance the diagonal of "
    "the study. The stand-in 'patches' learns from features of one encoder, which may be kin to those that selected; "
    "'network' is trained from scratch on the voxels."
)
HEADROOM = (
    "The oracle is told the labels: as many of each class (of each tertile of the foreground and its labels), in each "
    "the studies nearest to the centres of k-means on the features named. An arm's share of its gain is the arm's "
    "difference to random over the oracle's on the same features, with Fieller's interval on the corrected variances; "
    "without an interval where the oracle's gain is not told from 0. Where the oracle gains nothing, neither can a "
    "strategy. Of the best random batches, most is luck where little is left on the other half of the test part."
)
_FILES = ("results.csv", "summary.csv", "headroom.csv", "tables.md", "index.html")
_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums}
.wide{overflow-x:auto} th,td{padding:.25rem .6rem;border-bottom:1px solid #ddd;text-align:left;white-space:nowrap}
img{max-width:100%;height:auto;background:#fff} summary{cursor:pointer;font-weight:600} .note{color:#555}
@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#16181b} th,td{border-color:#3a3d42} .note{color:#aaa}}
@media print{details{display:block}}
"""


def write_outputs(
    folder: Path,
    outcome: Outcome,
    *,
    title: str,
    notes: Sequence[str],
    tests: bool,
    more: Sequence[tuple[str, list[list[str]]]] = (),
) -> list[Path]:
    """Write everything that people read, and return the files.

    Parameters
    ----------
    folder : Path
    outcome : Outcome
    title : str
    notes : sequence of str
        What was compared, and what was left out.
    tests : bool
        Whether intervals and p-values of differences are shown.
    more : sequence of (str, table)
        Other tables with their titles, to follow.

    Returns
    -------
    list of Path
        ``results.csv``, ``summary.csv``, ``headroom.csv``, ``tables.md``, ``index.html`` and the figures.
    """
    rows = summarise(outcome)
    tables = [*sections(rows, outcome, tests=tests), *more]
    figures = figures_of(rows, outcome, tests=tests)
    reading = [READING if tests else READING_WITHOUT_TESTS]
    if any(row.of_oracle is not None for row in rows):
        reading.append(HEADROOM)
    if "dice" in outcome.primary.values():
        reading.append(MASKS)
    write_results(folder / "results.csv", outcome)
    write_summary(folder / "summary.csv", rows, outcome.primary)
    write_headroom(folder / "headroom.csv", outcome)
    text = [f"# {title}", *notes, *reading]
    for name, table in tables:
        text += [f"## {name}", markdown(table)]
    (folder / "tables.md").write_text("\n\n".join(text) + "\n", encoding="utf-8")
    for name, data in figures.items():
        (folder / name).write_bytes(data)
    (folder / "index.html").write_text(_page(title, [*notes, *reading], tables, figures), encoding="utf-8")
    return [folder / name for name in (*_FILES, *figures)]


def _page(
    title: str, notes: Sequence[str], tables: Sequence[tuple[str, list[list[str]]]], figures: Mapping[str, bytes]
) -> str:
    parts = [f"<h1>{escape(title)}</h1>", *(f'<p class="note">{escape(note)}</p>' for note in notes)]
    for name, data in figures.items():
        source = base64.b64encode(data).decode()
        parts.append(f'<p><img alt="{escape(describe(name))}" src="data:image/png;base64,{source}"></p>')
    for place, (name, (head, *lines)) in enumerate(tables):
        cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
        body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in line) + "</tr>" for line in lines)
        is_open = " open" if place == 0 else ""
        parts.append(
            f'<details{is_open}><summary>{escape(name)}</summary><div class="wide"><table>'
            f"<thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div></details>"
        )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width"><title>{escape(title)}</title><style>{_STYLE}</style></head>'
        f"<body>{''.join(parts)}</body></html>\n"
    )
