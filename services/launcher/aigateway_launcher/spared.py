"""What libraries load when it is installed and no service uses: a tenth of a small process's memory, and of its start.

Only `up` and `serve` leave it out; commands that print tables need some of it.
"""

from __future__ import annotations

import sys
from typing import Final

COMMANDS: Final = ("httpx._main", "httpx2._main")
"""Command lines of HTTP clients: with them come click, rich and pygments."""
TRIED: Final = ("greenlet", "rich")
"""What structlog tries to import, for threads and tracebacks that our logs have no need of. Others may load them."""


def leave_out() -> None:
    """Keep it from being loaded. Call it before anything else is imported.

    A module that is None cannot be imported: https://docs.python.org/3/reference/import.html#the-module-cache. The
    libraries then do as they do where it is not installed.
    """
    for name in COMMANDS:
        _forbid(name)
    hidden = [name for name in TRIED if _forbid(name)]
    import structlog  # noqa: F401, PLC0415 - so that it is imported just now

    for name in hidden:
        del sys.modules[name]


def _forbid(name: str) -> bool:
    """Make importing `name` fail; False when it is here already."""
    if name in sys.modules:
        return False
    sys.modules[name] = None  # type: ignore[assignment] # typeshed leaves out what the import system reads
    return True
