"""What operators are shown: tables for people, JSON for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Column = tuple[str, Callable[[Mapping[str, Any]], object]]

_WHOLE: Final = frozenset({"id", "began", "when", "begins anew", "expires"})
"""Columns to be read, or copied, in one piece."""
_WIDE: Final = 1000
"""Characters of a line that no person's terminal breaks."""
ONCE: Final = "This is shown once: only its digest is stored. Put it where its user finds it, now."


def answer(found: Any, *, as_json: bool, columns: Sequence[Column], empty: str = "There are none.") -> None:
    """Print rows, or one thing, as a table or JSON."""
    if as_json:
        print(json.dumps(found, indent=2))
        return
    rows: list[Mapping[str, Any]] = found if isinstance(found, list) else [found]
    if not rows:
        print(empty)
        return
    table = Table(box=None, pad_edge=False)
    values = [[read(row) for _, read in columns] for row in rows]
    for index, (title, _) in enumerate(columns):
        numbers = all(isinstance(row[index], int | float) for row in values)
        table.add_column(title, justify="right" if numbers else "left", overflow="fold", no_wrap=title in _WHOLE)
    for row in values:
        table.add_row(*(Text(_cell(value)) for value in row))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDE
    console.print(table)


def secret(found: Mapping[str, Any], *, as_json: bool, columns: Sequence[Column]) -> None:
    """Print a key just made, with its secret on a line of its own."""
    if as_json:
        print(json.dumps(found, indent=2))
        return
    answer(found, as_json=False, columns=columns)
    print(f"\n{found['secret']}\n\n{ONCE}")


def limits(row: Mapping[str, Any]) -> str:
    """The limits of a key or project, in words."""
    given = row["limits"]
    words = {"requests_per_minute": "calls/min", "tokens_per_minute": "tokens/min", "concurrent_calls": "at once"}
    return ", ".join(f"{given[name]:,} {word}" for name, word in words.items() if given[name] is not None) or "none"


def models(row: Mapping[str, Any]) -> str:
    """The allowed models, in words."""
    return ", ".join(row["allowed_models"]) or "all"


def when(name: str, never: str = "") -> Callable[[Mapping[str, Any]], str]:
    """Reads a time to the minute, in UTC."""

    def read(row: Mapping[str, Any]) -> str:
        value: str | None = row[name]
        return never if value is None else value[:16].replace("T", " ")

    return read


def field(name: str) -> Callable[[Mapping[str, Any]], object]:
    """Reads a field as it is."""
    return lambda row: row[name]


def usd(name: str) -> Callable[[Mapping[str, Any]], str]:
    """Reads an amount of money; cents at least."""

    def read(row: Mapping[str, Any]) -> str:
        value: float = row[name]
        return f"${value:,.2f}" if value >= 1 or value == 0 else f"${value:.6g}"

    return read


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
