"""What a failed call of a provider's service means to the caller; the router maps foreign errors here alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aigateway_common.errors import STATUS_DETAILS_KEY, GatewayError, from_rpc_error

if TYPE_CHECKING:
    from grpc import aio


def from_provider(error: aio.AioRpcError, provider: str, *, own_timeout: float | None) -> GatewayError:
    """The error to give to the caller, with the provider's name in its details.

    `own_timeout` is the router's own limit in seconds, when the caller set none.
    """
    result = from_rpc_error(error)
    if not any(key == STATUS_DETAILS_KEY for key, _ in error.trailing_metadata() or ()):
        result = _of_transport(result, provider, own_timeout)
    result.details.setdefault("provider", provider)
    return result


def unreachable(provider: str) -> GatewayError:
    """The error for a provider's service that is down, or went away in the middle of a call."""
    return GatewayError(
        "UNAVAILABLE",
        f"the gateway's service for `{provider}` cannot be reached; try again",
        details={"provider": provider},
        retry_after=1,
    )


def _of_transport(plain: GatewayError, provider: str, own_timeout: float | None) -> GatewayError:
    """No adapter wrote this error: gRPC itself did."""
    match plain.reason.name:
        # The router cancels calls only when nobody waits for them any more: somebody else ended this one.
        case "UNAVAILABLE" | "CANCELLED":
            return unreachable(provider)
        case "DEADLINE_EXCEEDED" if own_timeout is not None:
            return GatewayError("UPSTREAM_TIMEOUT", f"`{provider}` did not answer within {own_timeout:g} seconds")
        # gRPC itself says RESOURCE_EXHAUSTED of a message beyond its size limit; limits of rate have details.
        case "RATE_LIMITED":
            return GatewayError("REQUEST_TOO_LARGE", "the request, or its answer, is larger than the gateway carries")
        case _:
            return plain
