"""The calls under way of each issued key, so that those of a revoked one can be ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aigateway_common import metrics

if TYPE_CHECKING:
    from aigateway_router.calls import Call


class RunningCalls:
    """Knows which task serves which key's call."""

    def __init__(self) -> None:
        self._calls: dict[str, dict[Call, asyncio.Task[object]]] = {}

    def enter(self, call: Call) -> None:
        """The current task serves `call` from now on; `leave` is to be called however that ends."""
        task = asyncio.current_task()
        if task is not None and call.caller.issued:
            self._calls.setdefault(call.key_id, {})[call] = task

    def leave(self, call: Call) -> None:
        """`call` is served no more."""
        calls = self._calls.get(call.key_id)
        if calls is not None and calls.pop(call, None) is not None and not calls:
            del self._calls[call.key_id]

    def cut(self, key_id: str) -> None:
        """End the calls of a key: their tasks are cancelled, and `was_cut` tells why."""
        for call, task in list(self._calls.get(key_id, {}).items()):
            if not call.cut:
                call.cut = True
                task.cancel()
                metrics.call_cut()


def was_cut(call: Call) -> bool:
    """Whether the cancellation that `call` ends with came from `cut` alone; takes it back then, as it is handled."""
    task = asyncio.current_task()
    return call.cut and task is not None and task.uncancel() == 0
