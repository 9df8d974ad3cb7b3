"""How an application writes into an answer that it has begun, without a coroutine and its turn of the event loop.

ASGI has `send` for that, which has to be awaited for each piece though it seldom waits. A server that can do better
puts an `Outflow` into the scope's `extensions`; an application that finds none sends as ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

EXTENSION: Final = "aigateway.outflow"
"""Its name in `scope["extensions"]`."""

Outflow = Callable[[bytes], bool]
"""Writes some of the body, not the last of it; whether there is room for more. Where not, `send` waits for it."""
