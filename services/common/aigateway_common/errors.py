"""The one error of the gateway, and its form on gRPC and HTTP.

Every failure that a caller may see is a `GatewayError` with one of the `REASONS`. Foreign errors (httpx, provider
bodies, SQL) are mapped to it once, at the seam where they appear; this module only knows the forms: gRPC status with
`ErrorInfo` and `RetryInfo` details, and the OpenAI body.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, NoReturn

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from aigateway_common.reasons import REASONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from grpc import aio

DOMAIN: Final = "aigateway"
STATUS_DETAILS_KEY: Final = "grpc-status-details-bin"

_Code = grpc.StatusCode

_REASON_OF_CODE: Final[Mapping[grpc.StatusCode, str]] = {
    _Code.INVALID_ARGUMENT: "INVALID_REQUEST",
    _Code.OUT_OF_RANGE: "REQUEST_TOO_LARGE",
    _Code.NOT_FOUND: "NOT_FOUND",
    _Code.UNIMPLEMENTED: "UNIMPLEMENTED",
    _Code.UNAUTHENTICATED: "UNAUTHENTICATED",
    _Code.PERMISSION_DENIED: "PERMISSION_DENIED",
    _Code.RESOURCE_EXHAUSTED: "RATE_LIMITED",
    _Code.DEADLINE_EXCEEDED: "DEADLINE_EXCEEDED",
    # Our own cancellation is a CancelledError: this one is a server that went while it took the call.
    _Code.CANCELLED: "UNAVAILABLE",
    _Code.UNAVAILABLE: "UNAVAILABLE",
}


class GatewayError(Exception):
    """A failure that a caller may see.

    `message` is brief, says what to do, and holds no secret. `details` are short strings that travel in
    `ErrorInfo.metadata`: `param` names the request's field, `provider` and `upstream_status` say where it came from,
    `original_provider` and `attempts` how it got there. A limit is told as `limit_requests`, `remaining_requests`,
    `reset_requests_ms` and the same of `tokens`; a budget as `budget` (its id), `limit`, `spent`, `reserved` and
    `resets_at` (RFC 3339).
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        details: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = REASONS[reason]
        self.message = message
        self.details: dict[str, str] = dict(details or {})
        self.retry_after = retry_after
        """Seconds to wait before another attempt, where the provider or a limit says so."""

    @property
    def code(self) -> grpc.StatusCode:
        """The gRPC status code."""
        return self.reason.code

    @property
    def http_status(self) -> int:
        """The HTTP status."""
        return self.reason.http_status

    @property
    def budget(self) -> dict[str, str | float | None] | None:
        """The budget that is spent, amounts in US dollars; None when it is not about one."""
        details = self.details
        if "budget" not in details or "limit" not in details:  # a budget may be named for another reason
            return None
        found: dict[str, str | float | None] = {"id": details["budget"]}
        found |= {name: _amount(details.get(name)) for name in ("limit", "spent", "reserved")}
        return found | {"resets_at": details.get("resets_at")}

    def to_openai(self) -> dict[str, dict[str, Any]]:
        """The body of the error in OpenAI's shape, with `budget` beside where one is spent."""
        told: dict[str, Any] = {
            "message": self.message,
            "type": self.reason.openai_type,
            "code": self.reason.openai_code,
            "param": self.details.get("param"),
        }
        if (budget := self.budget) is not None:
            told["budget"] = budget
        return {"error": told}

    def to_status(self) -> status_pb2.Status:
        """The error as `google.rpc.Status`."""
        info = error_details_pb2.ErrorInfo(reason=self.reason.name, domain=DOMAIN, metadata=self.details)
        details = [_pack(info)]
        if self.retry_after is not None:
            delay = duration_pb2.Duration()
            delay.FromNanoseconds(int(self.retry_after * 1e9))
            details.append(_pack(error_details_pb2.RetryInfo(retry_delay=delay)))
        return status_pb2.Status(code=self.code.value[0], message=self.message, details=details)

    def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:
        """What gRPC carries after the status: the details."""
        return ((STATUS_DETAILS_KEY, self.to_status().SerializeToString()),)


def _amount(text: str | None) -> float | None:
    try:
        amount = float(text or "")
    except ValueError:
        return None
    return amount if math.isfinite(amount) else None


def invalid(param: str, message: str) -> GatewayError:
    """A request error that names its field, such as `messages[2].role`."""
    return GatewayError("INVALID_REQUEST", message, details={"param": param})


async def abort(context: aio.ServicerContext[Any, Any], error: GatewayError) -> NoReturn:
    """End a gRPC call with `error`, details included."""
    await context.abort(error.code, error.message, error.trailing_metadata())
    raise AssertionError  # abort always raises


def from_rpc_error(error: aio.AioRpcError) -> GatewayError:
    """The `GatewayError` behind a failed gRPC call, whether ours or the transport's own."""
    for key, value in error.trailing_metadata() or ():
        if key == STATUS_DETAILS_KEY and isinstance(value, bytes):
            return from_status(value) or _plain(error)
    return _plain(error)


def from_status(data: bytes) -> GatewayError | None:
    """The `GatewayError` behind a `google.rpc.Status`, which `to_status` makes; None when it is nothing of ours."""
    status = status_pb2.Status.FromString(data)
    info = error_details_pb2.ErrorInfo()
    retry = error_details_pb2.RetryInfo()
    retry_after: float | None = None
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            detail.Unpack(retry)
            retry_after = retry.retry_delay.ToNanoseconds() / 1e9
    if info.domain != DOMAIN or info.reason not in REASONS:
        return None
    return GatewayError(info.reason, status.message, details=info.metadata, retry_after=retry_after)


def _plain(error: aio.AioRpcError) -> GatewayError:
    reason = _REASON_OF_CODE.get(error.code(), "INTERNAL")
    match error.code():
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED:
            message = "a service of the gateway cannot be reached; try again"
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            message = "the deadline of the call passed"
        case grpc.StatusCode.INVALID_ARGUMENT | grpc.StatusCode.UNIMPLEMENTED | grpc.StatusCode.RESOURCE_EXHAUSTED:
            message = error.details() or reason.lower()
        case _:
            message = "internal error; the logs have it under the request id"
    return GatewayError(reason, message)


def _pack(message: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
