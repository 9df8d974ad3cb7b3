"""The few facts about accounts that must survive a restart, since nobody may be there to ask when the router is back.

Without them a router that starts while the usage service is away would not know that callers need keys, or that money
must be reserved. No key is kept.
"""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aigateway_common import logs

if TYPE_CHECKING:
    from pathlib import Path

FILE: Final = "accounts.json"

_log = logs.get("aigateway.router")


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of the accounts as a whole."""

    has_keys: bool
    """There are issued keys, revoked ones included."""
    default_budgeted: bool
    """Callers without an issued key have a budget."""
    budgeted_providers: frozenset[str]
    budgeted_projects: frozenset[str]


NOTHING: Final = Facts(
    has_keys=False, default_budgeted=False, budgeted_providers=frozenset(), budgeted_projects=frozenset()
)


class FactsFile:
    """Keeps facts in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE

    async def read(self) -> Facts | None:
        """The facts kept last; None when there are none."""
        return await asyncio.to_thread(self._read)

    async def write(self, facts: Facts) -> None:
        """Keep `facts`. A disk that refuses costs no call: it is logged."""
        try:
            await asyncio.to_thread(self._write, facts)
        except OSError as error:
            _log.error("facts about accounts not kept", file=str(self._path), error=error.strerror)

    def _read(self) -> Facts | None:
        try:
            kept: dict[str, Any] = json.loads(self._path.read_bytes())
            return Facts(
                has_keys=bool(kept["has_keys"]),
                default_budgeted=bool(kept["default_budgeted"]),
                budgeted_providers=frozenset(map(str, kept["budgeted_providers"])),
                budgeted_projects=frozenset(map(str, kept["budgeted_projects"])),
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            _log.error("facts about accounts cannot be read", file=str(self._path), error=type(error).__name__)
            return None

    def _write(self, facts: Facts) -> None:
        document = {
            "has_keys": facts.has_keys,
            "default_budgeted": facts.default_budgeted,
            "budgeted_providers": sorted(facts.budgeted_providers),
            "budgeted_projects": sorted(facts.budgeted_projects),
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(f".{os.getpid()}")  # several workers may write at the same time
        fresh.write_text(json.dumps(document), encoding="utf-8")
        fresh.replace(self._path)
