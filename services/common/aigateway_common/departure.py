"""How an HTTP server tells the work of a request that its client has gone, without a task that waits for it.

ASGI has `receive` for that, which somebody has to wait in: a task, two futures and a cancellation for each call. A
server that can do better puts a `Departure` into the scope's `extensions`; an application that finds none waits in
`receive` as ever. Not for what is then done about it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

EXTENSION: Final = "aigateway.departure"
"""Its name in `scope["extensions"]`."""


class Departure:
    """Tells one listener, once, that a client has gone.

    Args:
        listening: Called when somebody begins to listen; the server makes sure then that it would notice.
    """

    __slots__ = ("_gone", "_listener", "_listening")

    def __init__(self, listening: Callable[[], None]) -> None:
        self._listening = listening
        self._listener: Callable[[], None] | None = None
        self._gone = False

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` when the client goes; at once if it has gone."""
        if self._gone:
            listener()
            return
        self._listener = listener
        self._listening()

    def ignore(self) -> None:
        """Call nobody any more."""
        self._listener = None

    def happened(self) -> None:
        """The client has gone; for the server alone."""
        self._gone = True
        listener, self._listener = self._listener, None
        if listener is not None:
            listener()
