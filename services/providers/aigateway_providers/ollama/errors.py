"""Ollama's failures: what its error bodies say, as a `GatewayError`.

A body is `{"error": "text"}` (https://docs.ollama.com/api/errors); its OpenAI-compatible face and the cloud's proxy
answer `{"error": {"message": …}}`. What a status means is decided in `upstream_errors`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from aigateway_providers import upstream_errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aigateway_common.errors import GatewayError


class _Body(msgspec.Struct):
    error: Any


def from_body(provider: str, status: int, headers: Mapping[str, str], body: bytes, model: str = "") -> GatewayError:
    """The error for an answer of `status` other than 200; `model` is the one asked for."""
    try:
        error = msgspec.json.decode(body, type=_Body).error
    except upstream_errors.UNREADABLE:
        if status == 404:  # Ollama's own 404s are JSON; this one comes from a wrong path or another server
            return upstream_errors.from_status(
                provider, 404, "no Ollama API there; check its base URL", reason="UPSTREAM_INVALID"
            )
        return upstream_errors.not_json(provider, status)
    retry_after = upstream_errors.retry_after(headers)
    return from_error(provider, status, error, model=model, retry_after=retry_after)


def from_error(
    provider: str, status: int, error: object, *, model: str = "", retry_after: float | None = None
) -> GatewayError:
    """The error for the value of an `error` field, in a body or in mid-stream."""
    message = error
    native: dict[str, str | None] = {}
    if isinstance(error, dict):
        message = error.get("message")
        native = {key: value for key in ("type", "code", "param") if isinstance(value := error.get(key), str)}
    text = message if isinstance(message, str) else ""
    if status == 404 and model:
        text = f"{text or f'model `{model}` not found'}; fetch it with `ollama pull {model}`"
    return upstream_errors.from_status(provider, status, text, retry_after=retry_after, native=native)
