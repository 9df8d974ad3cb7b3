"""The calls under way of each issued key, so that those of a revoked one can be ended."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

from aigateway_common import metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aigateway_router.calls import Call


class RunningCalls:
    """Knows which task serves which key's call."""

    def __init__(self) -> None:
        self._calls: dict[str, dict[Call, asyncio.Task[object]]] = {}

    @contextmanager
    def of(self, call: Call) -> Iterator[None]:
        """Around the serving of `call`, in the task that serves it."""
        task = asyncio.current_task()
        if task is None or not call.caller.issued:
            yield
            return
        calls = self._calls.setdefault(call.key_id, {})
        calls[call] = task
        try:
            yield
        finally:
            del calls[call]
            if not calls:
                self._calls.pop(call.key_id, None)

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
