"""The sandbox's models: what each is for, and how the failing ones fail.

Data only; what the models say is in `answers.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aigateway_common.errors import GatewayError

from aigateway_providers import upstream_errors

if TYPE_CHECKING:
    from collections.abc import Mapping

RETRY_AFTER: Final = 2.0
"""Seconds that `fail-429` and `fail-503` ask to wait."""
SLOW: Final = 10.0
"""Seconds that `slow` lets pass before its first word, unless told otherwise."""


@dataclass(frozen=True, slots=True)
class SandboxModel:
    """One model."""

    title: str
    """What it does, for people."""
    embeds: bool = False
    """Makes vectors, and no chat."""
    status: int = 0
    """The HTTP status of a provider that fails this way; 0 when it answers."""
    message: str = ""
    """What such a provider says."""


MODELS: Final[Mapping[str, SandboxModel]] = {
    "echo": SandboxModel("Repeats the last user message, word by word"),
    "tools": SandboxModel("Calls the tools it is offered, then tells what they answered"),
    "reason": SandboxModel("Reasons first, then repeats the last user message"),
    "json": SandboxModel("Answers with the smallest JSON that fits the schema it is given"),
    "slow": SandboxModel("Waits before its first word, then repeats the last user message"),
    "embed": SandboxModel("Makes the same unit vector of the same text", embeds=True),
    "fail-400": SandboxModel("Refuses the request", status=400, message="the request is not valid"),
    "fail-401": SandboxModel("Refuses the gateway's key", status=401, message="no valid key"),
    "fail-404": SandboxModel("Says that there is no such model", status=404, message="no such model"),
    "fail-429": SandboxModel("Is over its rate limit", status=429, message="rate limit reached"),
    "fail-500": SandboxModel("Fails on its own side", status=500, message="internal error"),
    "fail-503": SandboxModel("Is overloaded", status=503, message="overloaded"),
    "fail-timeout": SandboxModel("Never answers; the caller's deadline ends the call"),
    "fail-midstream": SandboxModel("Fails after its first words"),
    "fail-cut": SandboxModel("Breaks off after its first words"),
}


def find(provider: str, name: str, *, embeds: bool) -> SandboxModel:
    """The model `name`, which must make vectors or chat as asked.

    Raises:
        GatewayError: MODEL_NOT_FOUND listing the models; INVALID_REQUEST when it is of the other kind; the failure that
            a failing model stands for.
    """
    model = MODELS.get(name)
    if model is None:
        raise GatewayError(
            "MODEL_NOT_FOUND",
            f"{provider} has no model `{name}`; it has {', '.join(MODELS)}",
            details={"param": "model", "provider": provider},
        )
    if model.status:
        retry_after = RETRY_AFTER if model.status in {429, 503} else None
        raise upstream_errors.from_status(
            provider, model.status, f"{model.message} (`{name}` always says so)", retry_after=retry_after
        )
    if model.embeds != embeds and not name.startswith("fail-"):
        what = "makes no vectors; use `embed`" if embeds else "makes vectors only; use `echo`"
        raise GatewayError("INVALID_REQUEST", f"`{name}` {what}", details={"param": "model", "provider": provider})
    return model


def broken_midway(provider: str) -> GatewayError:
    """How `fail-midstream` ends."""
    return upstream_errors.from_status(provider, 500, "failed in mid-answer (`fail-midstream` always does)")
