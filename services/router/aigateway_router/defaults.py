"""What a caller's key or project says where the call itself says nothing. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aigateway.v1 import chat_pb2
from aigateway_common.errors import GatewayError

if TYPE_CHECKING:
    from aigateway_router.callers import Caller
    from aigateway_router.routes import Routes

DEFAULT_MODEL: Final = "default"
"""The name of a model that callers write when they leave the choice to their key."""


def model(caller: Caller, name: str, routes: Routes) -> str:
    """What `name` means: itself, or for `default` the model of the key or project; an alias of that name comes last.

    Raises:
        GatewayError: MODEL_NOT_FOUND, when there is no default.
    """
    if name != DEFAULT_MODEL:
        return name
    if caller.default_model:
        return caller.default_model
    if name in routes.aliases:
        return name
    raise GatewayError(
        "MODEL_NOT_FOUND",
        f"neither this key nor the project `{caller.project}` has a default model; name a model instead of `{name}`",
        details={"param": "model"},
    )


def chat(caller: Caller, call: chat_pb2.ChatCall) -> chat_pb2.ChatCall:
    """`call` with the most output tokens that its caller's key or project allows by default; never changed itself."""
    if caller.max_output_tokens is None or call.options.HasField("max_output_tokens"):
        return call
    completed = chat_pb2.ChatCall()
    completed.CopyFrom(call)
    completed.options.max_output_tokens = caller.max_output_tokens
    return completed
