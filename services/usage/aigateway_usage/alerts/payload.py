"""What a webhook is sent of an alert; pure. `docs/alerts.md` tells receivers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from aigateway_usage.rows import Row


def body(alert: Row) -> str:
    """The JSON of an alert as it is now, all but `sent_at`."""
    resolved = alert["resolved_at_us"]
    told = {
        "id": alert["id"],
        "kind": alert["kind"],
        "subject": alert["subject"],
        "message": alert["message"],
        "state": "open" if resolved is None else "resolved",
        "opened_at": _iso(alert["opened_at_us"]),
        "resolved_at": None if resolved is None else _iso(resolved),
    }
    return msgspec.json.encode(told).decode()


def sent(stored: str, now_us: int) -> bytes:
    """The bytes to send now."""
    told: dict[str, Any] = msgspec.json.decode(stored)
    return msgspec.json.encode(told | {"sent_at": _iso(now_us)})


def _iso(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
