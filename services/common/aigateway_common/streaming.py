"""Streams of messages handed on at once where both ends share a process, and message by message where they do not.

A service that only passes a stream on is woken up for each message, though it needs no task of its own to do so. Here
it says instead what is to be done with a message; in process that is done by whoever writes it, and the service's task
sleeps until the stream ends or cannot go on. Not for streams whose messages need anything awaited.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grpc import aio

from aigateway_common.inprocess.call import StreamCall
from aigateway_common.inprocess.context import Context

if TYPE_CHECKING:
    from collections.abc import Callable


async def consume(call: aio.UnaryStreamCall[Any, Any], take: Callable[[Any], bool]) -> bool:
    """Hand the messages of `call` to `take` as they come, until it answers False; whether the stream has ended.

    A message for which it answers False was taken too. `take` must not wait for anything and may run in another task;
    what it raises is raised here, as is the error that the stream ended with.
    """
    if isinstance(call, StreamCall):
        return await call.consume(take)
    while (message := await call.read()) is not aio.EOF:
        if not take(message):
            return False
    return True


async def comes(call: aio.UnaryStreamCall[Any, Any], seconds: float) -> bool | None:
    """Whether the next message of `call`, or its end, comes by then; None on the wire, where only reading tells."""
    return await call.comes(seconds) if isinstance(call, StreamCall) else None


def putter(context: aio.ServicerContext[Any, Any]) -> Callable[[Any], bool] | None:
    """What writes a message without waiting, and answers whether there is room for more; None on the wire.

    It raises what `write` does. Where there is no room for more, the next message is to be written by `write`.
    """
    return context.putter() if isinstance(context, Context) else None
