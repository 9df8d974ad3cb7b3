"""An Anthropic request body to the call that the gateway carries.

Typed fields go where the contract has a place for them; all others stay JSON, in the `extra_json` of the level they
were found on. https://platform.claude.com/docs/en/api/messages
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import orjson
from aigateway.v1 import chat_pb2
from aigateway_common.errors import invalid

from aigateway_edge.anthropic import options
from aigateway_edge.anthropic.blocks import DIALECT, cache_control, left
from aigateway_edge.anthropic.messages import Conversation
from aigateway_edge.anthropic.tools import tool_choice, tools
from aigateway_edge.fields import Fields, parse

BETA: Final = "anthropic_beta"
"""The field that stands for the header `anthropic-beta`, as on hosts of Claude that take it in the body."""
VERSION_FIELD: Final = b"anthropic_version"
"""The same for `anthropic-version`; for Anthropic's eyes only, since it asks nothing of other providers."""


@dataclass(frozen=True, slots=True)
class ParsedMessages:
    """A messages request."""

    call: chat_pb2.ChatCall
    stream: bool
    """The caller wants a stream."""
    conversation: Conversation


def messages_call(body: bytes, betas: str = "", *, counting: bool = False) -> ParsedMessages:
    """A request of `/v1/messages`, or with `counting` one of `/v1/messages/count_tokens`.

    Args:
        body: The body.
        betas: The header `anthropic-beta`.
        counting: Tokens are only counted.

    Raises:
        GatewayError: INVALID_REQUEST, naming the field.
    """
    request = parse(body)
    model = request.required_text("model")
    conversation = Conversation()
    conversation.system(request)
    said = request.children("messages")
    if not said:
        raise invalid("messages", "`messages` is required and must not be empty")
    for message in said:
        conversation.read(message)
    stream = request.boolean("stream") or False
    generation = options.generation(request, counting=counting)
    reasoning, form = options.thinking_and_form(request)
    choice, parallel = tool_choice(request)
    if betas and not request.has(BETA):
        request.keep(BETA, orjson.dumps([name for word in betas.split(",") if (name := word.strip())]))
    call = chat_pb2.ChatCall(
        model=model,
        messages=conversation.messages,
        tools=tools(request),
        tool_choice=choice,
        parallel_tool_calls=parallel,
        options=generation,
        response_format=form,
        reasoning=reasoning,
        user=_user(request),
        dialect=DIALECT,
        include_usage=stream,
        cache_control=cache_control(request),
        extra_json=left(request),  # last: what nobody above took
    )
    return ParsedMessages(call, stream, conversation)


def _user(request: Fields) -> str:
    metadata = request.child("metadata")
    if metadata is None:
        return ""
    user = metadata.text("user_id") or ""
    request.put_back("metadata", metadata)
    return user
