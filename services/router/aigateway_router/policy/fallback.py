"""Whether something else may stand in for a target that failed. What stands in for what is the settings' business."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aigateway_router.policy.retry import RETRYABLE

if TYPE_CHECKING:
    from aigateway_common.errors import GatewayError

_OF_THE_TARGET: Final = RETRYABLE | {
    "UPSTREAM_AUTH",
    "UPSTREAM_BILLING",
    "UPSTREAM_DENIED",
    "UPSTREAM_QUOTA",
    "CONTEXT_TOO_LONG",  # another model may have a longer window
    "BUDGET_EXCEEDED",  # whoever's it is, something cheaper, or free, may still fit
    "PROVIDER_DISABLED",
}
_OF_A_PROVIDER: Final = frozenset({"MODEL_NOT_FOUND", "RATE_LIMITED"})
"""Failures of the target when their details name a provider; else of the name itself, or of the caller's own limit."""


def falls_back(error: GatewayError) -> bool:
    """Whether the target is no use now, but another may be.

    Never for what any target would refuse (the content of the request, who calls), for a caller that no longer
    waits, or for a fault of the gateway itself.
    """
    name = error.reason.name
    return name in _OF_THE_TARGET or (name in _OF_A_PROVIDER and "provider" in error.details)
