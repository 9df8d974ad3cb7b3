"""URLs that hold a user and a password, which may change while the place that they lead to stays the same; pure."""

from __future__ import annotations

import re
from typing import Final

_LOGIN: Final = re.compile(r"(?<=://)[^:/]*(?::[^@]*)?@")
"""User and password, as SQLAlchemy reads them (https://docs.sqlalchemy.org/en/20/core/engines.html)."""


def place(url: str) -> str:
    """`url` without its login: two that lead to one place have the same."""
    return _LOGIN.sub("", url, count=1)


def same_place(one: str | None, other: str | None) -> bool:
    """Whether both are URLs, and differ in the login at most."""
    return bool(one and other) and place(str(one)) == place(str(other))
