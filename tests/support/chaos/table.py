"""A table in a test's output: what was done, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Table:
    """Rows under a title, printed whole."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)

    def add(self, *cells: object) -> None:
        assert len(cells) == len(self.columns), cells
        self.rows.append(tuple(str(cell) for cell in cells))

    def text(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in self]
        return "\n".join(["", self.title, lines[0], "  ".join("-" * width for width in widths), *lines[1:], ""])

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        return iter([self.columns, *self.rows])
