"""Reports as CSV that spreadsheets may open: what would be taken for a formula there is text. Pure.

https://owasp.org/www-community/attacks/CSV_Injection
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


def to_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """A header and one line per row; `usage.output_text` is the field of an object, what is not known stays empty."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(_field(row, column)) for column in columns])
    return out.getvalue()


def _field(row: Mapping[str, Any], column: str) -> Any:
    value: Any = row
    for step in column.split("."):
        if value is None:
            return None
        value = value[step]
    return value


def _cell(value: Any) -> Any:
    """Numbers as they are; text with an apostrophe before what begins like a formula."""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return "'" + value
    return "" if value is None else value
