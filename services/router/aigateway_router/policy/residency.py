"""Which upstreams have which models in memory, as their adapters say when they are asked every few seconds.

A model that is not in memory answers its first call only once it has been loaded, which takes seconds to minutes. Not
for choosing: that is `balance`. It knows no gRPC: the caller says how an upstream is asked.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aigateway_common.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable

    from aigateway.v1 import model_pb2

LOOK_SECONDS: Final = 5.0
"""Between two looks at an upstream. What a call has loaded is known by itself, at the next look at the latest."""
_DEFAULT_TAG: Final = ":latest"
"""What local servers write behind a name that callers give without it
(https://github.com/ollama/ollama/blob/main/docs/api.md#model-names)."""


class Residency:
    """Asks upstreams for their models again and again.

    Args:
        upstreams: Which; with none, nothing is done.
        ask: The models of one. Raises GatewayError when it cannot be asked.
        sleep: Waits for so many seconds.
    """

    def __init__(
        self,
        upstreams: Iterable[str],
        ask: Callable[[str], Awaitable[Iterable[model_pb2.Model]]],
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._upstreams = sorted(set(upstreams))
        self._ask = ask
        self._sleep = sleep
        self._loaded: dict[str, Collection[str]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def has(self, upstream: str, model: str) -> bool:
        """Whether `upstream` has `model` in memory, as far as is known."""
        return model in self._loaded.get(upstream, ())

    def start(self) -> None:
        """Look from now on. Needs a running event loop."""
        self._tasks = [asyncio.create_task(self._watch(one), name=f"residency of {one}") for one in self._upstreams]

    async def stop(self) -> None:
        """Look no longer."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self, upstream: str) -> None:
        while True:
            try:
                models = await self._ask(upstream)
            except GatewayError:
                self._loaded.pop(upstream, None)  # whether it is well is others' business
            else:
                self._loaded[upstream] = frozenset(
                    name for model in models if model.residency.loaded for name in (model.id, _short(model.id))
                )
            await self._sleep(LOOK_SECONDS)


def _short(name: str) -> str:
    return name.removesuffix(_DEFAULT_TAG)
