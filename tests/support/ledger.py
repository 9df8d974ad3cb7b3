"""Reading the ledger's file as an SQL user does."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def rows(data: Path, sql: str = "select * from requests", *values: object) -> list[dict[str, Any]]:
    """What `sql` answers on the ledger in folder `data`."""
    with sqlite3.connect(f"file:{data / 'ledger.db'}?mode=ro", uri=True, timeout=10) as connection:
        connection.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in connection.execute(sql, values)]
        finally:
            connection.commit()


def wait_for(data: Path, count: int, sql: str = "select * from requests", seconds: float = 20) -> list[dict[str, Any]]:
    """The rows of `sql` once there are `count` of them: delivery to the ledger follows the answer."""
    found = wait_until(data, lambda found: len(found) >= count, sql, seconds=seconds)
    assert len(found) == count, f"{len(found)} rows, not {count}"
    return found


def wait_until(
    data: Path,
    enough: Callable[[list[dict[str, Any]]], bool],
    sql: str = "select * from requests",
    seconds: float = 20,
) -> list[dict[str, Any]]:
    """The rows of `sql` once they are `enough`, or as they are after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        try:
            found = rows(data, sql)
        except sqlite3.OperationalError:  # the ledger is not there yet
            found = []
        if enough(found) or time.monotonic() > end:
            return found
        time.sleep(0.02)
