"""Secrets of keys: made here, shown once, known by their digest afterwards; pure."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from typing import Final

PREFIX: Final = "gw-"
VISIBLE: Final = 10
"""Characters of a secret that are stored and shown, to tell keys apart; 42 bits of its 256."""

ID: Final = re.compile(r"key-[0-9a-f]{8}")
"""The form of a key's id."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A new key's secret and what is stored of it."""

    text: str = field(repr=False)

    @property
    def sha256(self) -> str:
        """Its digest, in hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def id(self) -> str:
        """What stands for it in the ledger, logs and traces; routers make the same of a key of their configuration."""
        return f"key-{self.sha256[:8]}"

    @property
    def prefix(self) -> str:
        """Its first characters."""
        return self.text[:VISIBLE]


def generate() -> Secret:
    """A new secret."""
    return Secret(PREFIX + secrets.token_urlsafe(32))
