"""Connections to the file of a ledger."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from typing import TYPE_CHECKING

import pytest
from aigateway_usage.sqlite import SqliteFile
from sqlalchemy import make_url

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection


async def test_a_connection_that_nobody_waits_for_any_more_is_closed_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = SqliteFile(make_url(f"sqlite+aiosqlite:///{tmp_path / 'ledger.db'}"), busy_timeout=1)
    engine, reached, go_on = file.engine, threading.Event(), threading.Event()

    class Slow:
        def connect(self) -> Connection:
            reached.set()
            assert go_on.wait(10)
            return engine.connect()

    file.engine = Slow()  # type: ignore[assignment] # holds the thread until the caller has left
    connecting = asyncio.ensure_future(file.connect())
    await asyncio.to_thread(reached.wait, 10)
    before = set(threading.enumerate())
    connecting.cancel()
    asyncio.get_running_loop().call_soon(go_on.set)
    with pytest.raises(asyncio.CancelledError):
        await connecting
    gc.collect()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert any(thread not in threading.enumerate() for thread in before), "the connection's thread has not ended"
