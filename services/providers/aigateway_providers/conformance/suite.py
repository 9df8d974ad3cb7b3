"""The case list, and what runs it against an adapter.

It speaks the contract and nothing else, so that an adapter in any language can be tested. A case runs when what it
needs is claimed; those that need a provider which does as it is told run only with a `Script`.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from grpc import aio

from aigateway_providers.conformance import answers, failures
from aigateway_providers.conformance.target import Target
from aigateway_providers.conformance.verdict import Failed, Result, Skipped

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aigateway_providers.conformance.target import Script
    from aigateway_providers.conformance.verdict import Outcome


@dataclass(frozen=True, slots=True)
class Case:
    """One case; its promise is the first line of what it runs."""

    name: str
    check: Callable[[Target], Awaitable[str]]
    needs: tuple[str, ...] = ("chat",)
    """Capabilities without which it says nothing."""
    scripted: bool = False
    """It needs a provider that does as it is told."""

    @property
    def promise(self) -> str:
        """What it checks."""
        return (self.check.__doc__ or "").split("\n", 1)[0]


CASES: Final = (
    Case("capabilities", answers.capabilities, needs=()),
    Case("basic", answers.basic),
    Case("streaming", answers.streaming),
    Case("whole and streamed", answers.whole_and_streamed, scripted=True),
    Case("tools", answers.tools, needs=("chat", "tools")),
    Case("streamed tools", answers.streamed_tools, needs=("chat", "tools")),
    Case("parallel tools", answers.parallel_tools, needs=("chat", "tools")),
    Case("structured output", answers.structured, needs=("chat", "structured_output")),
    Case("image", answers.image, needs=("chat", "images")),
    Case("large image", answers.large_image, needs=("chat", "images")),
    Case("large message", answers.large_message),
    Case("reasoning", answers.reasoning, needs=("chat", "reasoning")),
    Case("usage", answers.usage),
    Case("unknown fields", answers.extras),
    Case("own unknown fields", answers.own_extras, scripted=True),
    Case("strict policy", failures.strict_policy),
    Case("no messages", failures.empty_messages),
    Case("invalid schema", failures.invalid_schema, needs=("chat", "tools")),
    Case("invalid arguments", failures.invalid_arguments, needs=("chat", "tools")),
    Case("unknown model", failures.unknown_model),
    Case("key refused", failures.key_refused, scripted=True),
    Case("rate limit", failures.rate_limited, scripted=True),
    Case("server error", failures.server_error, scripted=True),
    Case("truncated", failures.truncated, scripted=True),
    Case("cancel", failures.cancelled),
    Case("cancel early", failures.cancelled_early, scripted=True),
    Case("deadline", failures.deadline),
    Case("embeddings", answers.embeddings, needs=("embed",)),
    Case("models", answers.models, needs=("list_models",)),
    Case("unclaimed", answers.unclaimed, needs=()),
)
"""Every case, in the order in which they run."""


async def run(
    channel: aio.Channel,
    *,
    model: str = "",
    embed_model: str = "",
    seconds: float = 60.0,
    script: Script | None = None,
    done: Callable[[Result], None] | None = None,
) -> list[Result]:
    """Run every case against the adapter behind `channel`, one after the other.

    Args:
        channel: A channel to a server of `ProviderService`; it must take messages of 64 MiB.
        model: The model to call, as the provider names it; the first that the list has for text when empty.
        embed_model: The model that embeds; the first that the list has when empty.
        seconds: How long a call may take; a case may take three times as long.
        script: The provider behind the adapter, where it does as it is told.
        done: Told of each result as it comes.
    """
    target = Target(channel, model=model, embed_model=embed_model, timeout=seconds, script=script)
    results: list[Result] = []
    try:
        await target.look_around()
    except aio.AioRpcError as error:
        first = CASES[0]
        results.append(Result(first.name, first.promise, "fail", _status(error), 0.0))
        if done:
            done(results[-1])
        return results
    for case in CASES:
        results.append(await _run(case, target))
        if done:
            done(results[-1])
    return results


async def _run(case: Case, target: Target) -> Result:
    started = time.perf_counter()
    outcome: Outcome = "pass"
    try:
        _check_applies(case, target)
        async with asyncio.timeout(3 * target.timeout):
            detail = await case.check(target)
    except Skipped as reason:
        outcome, detail = "skip", str(reason)
    except Failed as reason:
        outcome, detail = "fail", str(reason)
    except aio.AioRpcError as error:
        outcome, detail = "fail", _status(error)
    except TimeoutError:
        outcome, detail = "fail", f"did not end within {3 * target.timeout:g} s"
    return Result(case.name, case.promise, outcome, detail, time.perf_counter() - started)


def _check_applies(case: Case, target: Target) -> None:
    if missing := [need for need in case.needs if not getattr(target.capabilities, need)]:
        raise Skipped(f"{', '.join(f'`{need}`' for need in missing)} not claimed")
    if case.scripted and target.live:
        raise Skipped("needs a provider that does as it is told")


def _status(error: aio.AioRpcError) -> str:
    return f"{error.code().name}: {error.details()}"
