"""What every call must have, whatever its provider takes. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aigateway_common.errors import invalid

if TYPE_CHECKING:
    from aigateway.v1 import chat_pb2, embedding_pb2

MAX_MODEL_NAME: Final = 512
"""Characters; every call's names are kept in the ledger."""


def check_chat(call: chat_pb2.ChatCall) -> None:
    """Check what every chat call must have; the rest is for the adapter, which knows what its provider takes."""
    _check_model(call.model)
    if not call.messages:
        raise invalid("call.messages", "`call.messages` must hold at least one message")
    for index, message in enumerate(call.messages):
        if not message.role:
            raise invalid(f"call.messages[{index}].role", f"`call.messages[{index}].role` is required")


def check_embed(call: embedding_pb2.EmbedCall) -> None:
    """Check what every call for embeddings must have."""
    _check_model(call.model)
    if not call.inputs:
        raise invalid("call.inputs", "`call.inputs` must hold at least one text")
    for index, item in enumerate(call.inputs):
        if item.WhichOneof("kind") is None:
            raise invalid(f"call.inputs[{index}]", f"`call.inputs[{index}]` must hold `text` or `tokens`")


def _check_model(model: str) -> None:
    if not model:
        raise invalid("call.model", "`call.model` is required; write `provider/model`, an alias or a model's name")
    if len(model) > MAX_MODEL_NAME:
        raise invalid("call.model", f"`call.model` has more than {MAX_MODEL_NAME} characters")
