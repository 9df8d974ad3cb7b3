"""Settings of the router."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSettings:
    """Who may call, what names mean, how long calls may take, and how the outbox keeps usage events."""

    outbox_dir: Path
    """The folder of the usage events that are not delivered yet; one router process at a time may use it."""
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    """The keys that callers may use. Empty: anybody may call, which the launcher allows on loopback only."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Names of the operator's own: alias to `provider/model`, or to another alias."""
    disabled: Mapping[str, str] = field(default_factory=dict)
    """Providers that are known but not enabled, each with the hint that enables it (`set OPENAI_API_KEY`)."""
    groq_models: tuple[str, ...] = ()
    """Model names that go to groq without being told so, beside those known from its documentation."""
    default_timeout: float = 600.0
    """Seconds that a call may take when its caller sets no deadline."""
    models_ttl: float = 60.0
    """Seconds that a provider's list of models is kept."""
    models_timeout: float = 5.0
    """Seconds that a provider may take to list its models before it counts as unavailable."""
    outbox_max_bytes: int = 1024 * 1024 * 1024
    """Bytes of undelivered usage events beyond which new calls are refused; never are events dropped."""
    outbox_segment_bytes: int = 4 * 1024 * 1024
    """Bytes of one outbox file; a file is deleted once all of it is delivered."""
    outbox_batch: int = 1000
    """Usage events delivered at once at most; the usage service takes 10,000."""
    outbox_linger: float = 0.1
    """Seconds that a usage event may wait for others to be delivered with; no answer waits for that."""
    outbox_fsync: bool = False
    """Force each event to the disk itself before the answer ends: survives a power cut, and costs a disk write a call.

    Without it an event survives any end of the process, but not of the machine.
    """
