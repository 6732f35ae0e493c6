"""Read what a table says of studies: sites, patients, classes."""

from __future__ import annotations

import csv
from pathlib import Path


def split_column(table: str) -> tuple[Path, str]:
    """Take ``FILE#COLUMN`` apart; a file or a folder may have a ``#`` in its name too."""
    path, _, column = table.rpartition("#")
    return (Path(table), "") if not path or Path(table).is_file() else (Path(path), column)


def read_column(table: str) -> list[tuple[str, str]]:
    """Read one column of a CSV file.

    Parameters
    ----------
    table : str
        ``FILE`` or ``FILE#COLUMN``. The first line names the columns; the first column names the studies, the value is
        in the second or in the one named.

    Returns
    -------
    list of (str, str)
        Study and value of each line that has both, in the order of the file.

    Raises
    ------
    ValueError
        If there is no such column.
    OSError
        If the table cannot be read.
    """
    path, column = split_column(table)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [[cell.strip() for cell in line] for line in csv.reader(file) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"The table {path} cannot be read: {getattr(error, 'strerror', None) or error}."
        raise OSError(msg) from error
    names = lines[0] if lines else []
    if len(names) < 2 or (column and column not in names[1:]):  # noqa: PLR2004 - a study and a value
        wanted = f"a column {column!r}" if column else "two columns, the study and its value"
        msg = f"{path} must have {wanted}, named in its first line; it has {', '.join(names) or 'nothing'}."
        raise ValueError(msg)
    place = names.index(column, 1) if column else 1
    return [(line[0], line[place]) for line in lines[1:] if len(line) > place and line[place]]
