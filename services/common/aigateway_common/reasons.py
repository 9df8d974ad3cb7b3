"""Every way to fail, each with its names on gRPC and HTTP and a sentence that says when.

The one table of gRPC code, HTTP status and OpenAI error type; `docs/errors.md` lists it for users.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import grpc

if TYPE_CHECKING:
    from collections.abc import Mapping

_Code = grpc.StatusCode


@dataclass(frozen=True, slots=True)
class Reason:
    """One way to fail: its names on each surface, and when it happens."""

    name: str
    code: grpc.StatusCode
    http_status: int
    openai_type: str
    openai_code: str | None
    retryable: bool
    """Another attempt, later or elsewhere, may succeed."""
    when: str


def _table(*reasons: Reason) -> dict[str, Reason]:
    return {reason.name: reason for reason in reasons}


_BAD = "invalid_request_error"
_API = "api_error"

REASONS: Final[Mapping[str, Reason]] = _table(
    # The caller's request.
    Reason(
        "INVALID_REQUEST",
        _Code.INVALID_ARGUMENT,
        400,
        _BAD,
        None,
        False,
        "A field of the request is missing, malformed or out of range.",
    ),
    Reason(
        "UNSUPPORTED",
        _Code.INVALID_ARGUMENT,
        400,
        _BAD,
        "unsupported_parameter",
        False,
        "The chosen provider cannot do what the request needs, and leaving it out would change the answer.",
    ),
    Reason(
        "TRANSLATION_REFUSED",
        _Code.INVALID_ARGUMENT,
        400,
        _BAD,
        "unsupported_parameter",
        False,
        "The translation policy is `strict` and something could not be carried to the provider unchanged.",
    ),
    Reason(
        "CONTEXT_TOO_LONG",
        _Code.INVALID_ARGUMENT,
        400,
        _BAD,
        "context_length_exceeded",
        False,
        "The prompt does not fit into the model's context window.",
    ),
    Reason(
        "REQUEST_TOO_LARGE",
        _Code.OUT_OF_RANGE,
        413,
        _BAD,
        "request_too_large",
        False,
        "The request is larger than the gateway or the provider takes.",
    ),
    Reason(
        "REQUEST_TIMEOUT",
        _Code.ABORTED,
        408,
        _BAD,
        "request_timeout",
        True,
        "The request came too slowly.",
    ),
    Reason(
        "UNSUPPORTED_MEDIA_TYPE",
        _Code.INVALID_ARGUMENT,
        415,
        _BAD,
        "unsupported_media_type",
        False,
        "The request body is compressed, or is not marked as JSON where it must be.",
    ),
    Reason("NOT_FOUND", _Code.NOT_FOUND, 404, _BAD, "not_found", False, "There is no such path or resource."),
    Reason(
        "METHOD_NOT_ALLOWED",
        _Code.UNIMPLEMENTED,
        405,
        _BAD,
        "method_not_allowed",
        False,
        "The path exists, but not for this HTTP method.",
    ),
    Reason(
        "MODEL_NOT_FOUND",
        _Code.NOT_FOUND,
        404,
        _BAD,
        "model_not_found",
        False,
        "No enabled provider has a model of that name.",
    ),
    Reason(
        "UNIMPLEMENTED",
        _Code.UNIMPLEMENTED,
        400,  # SDKs retry every 5xx, and this will never succeed
        _BAD,
        "not_implemented",
        False,
        "The provider does not offer this operation at all (embeddings, for one).",
    ),
    # Who calls.
    Reason(
        "UNAUTHENTICATED",
        _Code.UNAUTHENTICATED,
        401,
        "authentication_error",
        "invalid_api_key",
        False,
        "The gateway key or token is missing, wrong, expired or revoked.",
    ),
    Reason(
        "PERMISSION_DENIED",
        _Code.PERMISSION_DENIED,
        403,
        "permission_error",
        "permission_denied",
        False,
        "The key is valid but may not do this.",
    ),
    Reason(
        "RATE_LIMITED",
        _Code.RESOURCE_EXHAUSTED,
        429,
        "rate_limit_error",
        "rate_limit_exceeded",
        True,
        "A limit of the gateway is reached; wait as long as Retry-After says.",
    ),
    Reason(
        "BUDGET_EXCEEDED",
        _Code.RESOURCE_EXHAUSTED,
        429,
        "insufficient_quota",
        "budget_exceeded",
        False,
        "A budget of the key, its project or the provider does not hold the call.",
    ),
    # The provider.
    Reason(
        "UPSTREAM_AUTH",
        _Code.FAILED_PRECONDITION,
        502,
        _API,
        "upstream_auth_failed",
        False,
        "The provider refused the gateway's own key; the caller's key is fine.",
    ),
    Reason(
        "UPSTREAM_BILLING",
        _Code.FAILED_PRECONDITION,
        502,
        _API,
        "upstream_billing",
        False,
        "The gateway's account at the provider has no credit.",
    ),
    Reason(
        "UPSTREAM_DENIED",
        _Code.PERMISSION_DENIED,
        403,
        "permission_error",
        "upstream_permission_denied",
        False,
        "The provider does not allow the gateway's account to do this.",
    ),
    Reason(
        "UPSTREAM_RATE_LIMITED",
        _Code.RESOURCE_EXHAUSTED,
        429,
        "rate_limit_error",
        "rate_limit_exceeded",
        True,
        "The provider's rate limit is reached.",
    ),
    Reason(
        "UPSTREAM_QUOTA",
        _Code.RESOURCE_EXHAUSTED,
        429,
        "insufficient_quota",
        "insufficient_quota",
        False,
        "The gateway's quota at the provider is spent; waiting a little does not help.",
    ),
    Reason(
        "UPSTREAM_OVERLOADED",
        _Code.UNAVAILABLE,
        503,
        "overloaded_error",
        "upstream_overloaded",
        True,
        "The provider is overloaded or down for maintenance.",
    ),
    Reason(
        "UPSTREAM_ERROR",
        _Code.INTERNAL,
        502,
        _API,
        "upstream_error",
        True,
        "The provider failed on its side (HTTP 5xx, or an error inside a 200).",
    ),
    Reason(
        "UPSTREAM_INVALID",
        _Code.INTERNAL,
        502,
        _API,
        "upstream_invalid_response",
        True,
        "The provider's answer is not what its documentation promises (HTML, broken JSON, a stream cut short).",
    ),
    Reason(
        "UPSTREAM_UNREACHABLE",
        _Code.UNAVAILABLE,
        503,
        _API,
        "upstream_unreachable",
        True,
        "The provider's address cannot be reached.",
    ),
    Reason(
        "UPSTREAM_TIMEOUT",
        _Code.DEADLINE_EXCEEDED,
        504,
        "timeout_error",
        "upstream_timeout",
        True,
        "The provider did not answer in time.",
    ),
    # The gateway.
    Reason(
        "PROVIDER_DISABLED",
        _Code.NOT_FOUND,
        404,
        _BAD,
        "provider_not_enabled",
        False,
        "The named provider is known but not enabled; the message says which setting enables it.",
    ),
    Reason(
        "DEADLINE_EXCEEDED",
        _Code.DEADLINE_EXCEEDED,
        504,
        "timeout_error",
        "timeout",
        False,
        "The caller's own deadline passed.",
    ),
    Reason("CANCELLED", _Code.CANCELLED, 499, _API, "cancelled", False, "The caller went away."),
    Reason(
        "OVERLOADED",
        _Code.UNAVAILABLE,
        503,
        "overloaded_error",
        "overloaded",
        True,
        "The gateway takes no more calls right now.",
    ),
    Reason(
        "UNAVAILABLE", _Code.UNAVAILABLE, 503, _API, "unavailable", True, "A service of the gateway cannot be reached."
    ),
    Reason(
        "INTERNAL",
        _Code.INTERNAL,
        500,
        _API,
        "internal_error",
        False,
        "A fault of the gateway; the logs have it under the request id.",
    ),
)
