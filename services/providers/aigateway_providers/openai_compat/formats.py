"""The form of the answer as OpenAI writes it, or told in words where the model does not follow a schema. Pure.

https://platform.openai.com/docs/guides/structured-outputs: OpenAI's models before GPT-4o's second version follow no
schema; most of them write a JSON object, GPT-4 itself not even that. https://console.groq.com/docs/structured-outputs:
at Groq a few models follow a schema, fewer `strict`ly; the others write a JSON object, and with tools neither is taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aigateway.v1 import chat_pb2

from aigateway_providers import splice

if TYPE_CHECKING:
    from aigateway_providers.openai_compat.messages import Json
    from aigateway_providers.openai_compat.profiles import HostProfile
    from aigateway_providers.report import Report

_SCHEMA: Final = "response_format.json_schema.schema"
_OBJECT: Final = "Answer with one JSON object and nothing else: no words around it and no code fence."


def takes(profile: HostProfile, call: chat_pb2.ChatCall, *, tools: bool) -> bool:
    """Whether the model takes the format that the call asks for, and beside `tools` if there are any."""
    form = call.response_format.type
    if form not in {chat_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA, chat_pb2.RESPONSE_FORMAT_TYPE_JSON_OBJECT}:
        return True
    if tools and not profile.json_with_tools:
        return False
    if form == chat_pb2.RESPONSE_FORMAT_TYPE_JSON_OBJECT:
        return _takes_objects(profile, call.model)
    facts = profile.known(call.model)
    follows = facts.structured_output if facts else None
    return follows is True or (follows is None and not profile.schemas_listed)


def _takes_objects(profile: HostProfile, model: str) -> bool:
    facts = profile.known(model)
    return facts is None or facts.json_mode is not False


def write(form: chat_pb2.ResponseFormat, profile: HostProfile, model: str, report: Report) -> Json:
    """The format as a field of the body."""
    match form.type:
        case chat_pb2.RESPONSE_FORMAT_TYPE_JSON_SCHEMA:
            schema: Json = {"name": form.name or "response"}
            if form.description:
                schema["description"] = form.description
            if form.schema_json:
                schema["schema"] = splice.fragment(form.schema_json, _SCHEMA)
            if form.HasField("strict"):
                schema["strict"] = form.strict
            if form.strict and profile.schemas_listed and model not in profile.strict_schemas:
                report.clamped("response_format.json_schema.strict", "true to false, which is all this model takes")
                schema["strict"] = False
            return {"type": "json_schema", "json_schema": schema}
        case chat_pb2.RESPONSE_FORMAT_TYPE_JSON_OBJECT:
            return {"type": "json_object"}
        case _:
            return {"type": "text"}


def emulate(body: Json, call: chat_pb2.ChatCall, profile: HostProfile, report: Report, *, said: str) -> bool:
    """Ask for JSON in words, after the caller's own system messages.

    Args:
        body: The body, conversation and tools included.
        call: The call.
        profile: The host.
        report: Where it is noted.
        said: The field of `body` that holds the conversation.

    Returns:
        Whether the model can also be asked for an object in the host's own way.
    """
    asked = call.response_format
    words = [_OBJECT]
    if asked.description:
        words.append(asked.description)
    if asked.schema_json:
        splice.fragment(asked.schema_json, _SCHEMA)
        words.append(f"It must follow this JSON Schema:\n{asked.schema_json.decode()}")
    for key in splice.members(asked.extra_json, "response_format"):
        report.dropped(f"response_format.{key}")
    messages = body[said]
    assert isinstance(messages, list)  # noqa: S101 - the writer made it
    place = next((n for n, message in enumerate(messages) if not _instructs(message)), len(messages))
    messages.insert(place, {"role": "system", "content": "\n\n".join(words)})
    if "tools" in body and not profile.json_with_tools:
        report.emulated("response_format", "by an instruction, since this provider takes no JSON format beside tools")
    elif not _takes_objects(profile, call.model):
        report.emulated("response_format", "by an instruction: this model has no JSON mode")
    else:
        report.emulated("response_format", "by a JSON object and an instruction: this model follows no schema")
        return True
    return False


def _instructs(message: object) -> bool:
    return isinstance(message, dict) and message.get("role") in {"system", "developer"}
