"""The form of the answer as OpenAI writes it, or told in words where the model does not follow a schema. Pure.

https://platform.openai.com/docs/guides/structured-outputs and https://console.groq.com/docs/structured-outputs: at Groq
a few models follow a schema, fewer `strict`ly; the others write a JSON object, and with tools neither is taken.
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
    if form == chat_pb2.RESPONSE_FORMAT_TYPE_JSON_OBJECT or not profile.schemas_listed:
        return True
    facts = profile.known(call.model)
    return facts is not None and facts.structured_output is True


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


def emulate(body: Json, form: chat_pb2.ResponseFormat, profile: HostProfile, report: Report) -> None:
    """Ask for JSON in words, after the caller's own system messages, and as an object where that is taken."""
    words = [_OBJECT]
    if form.description:
        words.append(form.description)
    if form.schema_json:
        splice.fragment(form.schema_json, _SCHEMA)
        words.append(f"It must follow this JSON Schema:\n{form.schema_json.decode()}")
    for key in splice.members(form.extra_json, "response_format"):
        report.dropped(f"response_format.{key}")
    if "tools" in body and not profile.json_with_tools:
        report.emulated("response_format", "by an instruction, since this provider takes no JSON format beside tools")
    else:
        report.emulated("response_format", "by a JSON object and an instruction: this model follows no schema")
        body["response_format"] = {"type": "json_object"}
    messages = body["messages"]
    assert isinstance(messages, list)  # noqa: S101 - the writer made it
    place = next((n for n, message in enumerate(messages) if message["role"] != "system"), len(messages))
    messages.insert(place, {"role": "system", "content": "\n\n".join(words)})
