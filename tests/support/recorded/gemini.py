"""Recorded exchanges of Gemini: what a caller of the OpenAI dialect sends for them, and what such a caller must get."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from support.exchanges import Expected, ToolCallSeen

if TYPE_CHECKING:
    from support.exchanges import Exchange

SKIPPED = {"countTokens": "replayed where tokens are counted: unit/providers/gemini/test_counting.py"}
"""Operations that no surface of the gateway offers yet, and why they are skipped."""

_STATUSES = {
    400: (400, "INVALID_REQUEST"),
    403: (403, "UPSTREAM_DENIED"),
    404: (404, "MODEL_NOT_FOUND"),
    429: (429, "UPSTREAM_RATE_LIMITED"),
    500: (502, "UPSTREAM_ERROR"),
    503: (503, "UPSTREAM_OVERLOADED"),
}
_FINISH = {"STOP": "stop", "MAX_TOKENS": "length", "SAFETY": "content_filter", "MALFORMED_FUNCTION_CALL": "error"}
_OPTIONS = {
    "maxOutputTokens": "max_completion_tokens",
    "temperature": "temperature",
    "topP": "top_p",
    "topK": "top_k",
    "seed": "seed",
    "stopSequences": "stop",
    "candidateCount": "n",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
}
_MODES = {"AUTO": "auto", "NONE": "none", "ANY": "required"}
_ENDINGS = {"application/pdf": "pdf", "audio/mpeg": "mp3", "audio/wav": "wav", "image/png": "png", "video/mp4": "mp4"}
_OPAQUE = {"args", "response", "parameters", "parametersJsonSchema", "responseSchema", "responseJsonSchema"}
"""Fields whose content is the caller's own JSON."""


def to_openai(exchange: Exchange) -> dict[str, Any]:
    """The body a caller of the gateway would send to ask for the same."""
    model = _model(exchange)
    request = _camel(exchange.request)
    if exchange.operation == "batchEmbedContents":
        return _embedding(model, request)
    native: dict[str, Any] = {}
    body: dict[str, Any] = {"model": model, "messages": _messages(request)}
    if exchange.operation == "streamGenerateContent":
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    _generation(request.pop("generationConfig", {}), body, native)
    _tools(request.pop("tools", []), body, native)
    _tool_choice(request.pop("toolConfig", {}), body, native)
    native |= {key: value for key, value in request.items() if key not in {"contents", "systemInstruction"}}
    return body | ({"provider_options": {"gemini": native}} if native else {})


def expected(exchange: Exchange) -> Expected:
    """What the caller must get; calls that Gemini gave no id have none here."""
    if exchange.status >= 400:
        status, reason = _failure(exchange)
        return Expected(status=status, error_reason=reason)
    records = answers(exchange)
    found = [part for record in records for part in parts(record)]
    calls = [part["functionCall"] for part in found if "functionCall" in part]
    reasons = [c["finishReason"] for record in records for c in record.get("candidates", []) if "finishReason" in c]
    counts = _counts(records)
    said = [part for part in found if "text" in part]
    return Expected(
        text="".join(part["text"] for part in said if not part.get("thought")),
        reasoning="".join(part["text"] for part in said if part.get("thought")),
        tool_calls=tuple(ToolCallSeen(call["name"], call.get("args", {}), call.get("id")) for call in calls),
        finish_reason="tool_calls" if calls and reasons[-1] == "STOP" else _FINISH[reasons[-1]],
        prompt_tokens=counts["promptTokenCount"] + counts.get("toolUsePromptTokenCount", 0),
        completion_tokens=counts.get("candidatesTokenCount", 0) + counts.get("thoughtsTokenCount", 0),
        cached_tokens=counts.get("cachedContentTokenCount"),
        reasoning_tokens=counts.get("thoughtsTokenCount"),
        model=records[0]["modelVersion"],
    )


def answers(exchange: Exchange) -> list[dict[str, Any]]:
    """The records of the answer: of an event stream, of an array, or the one."""
    if exchange.body.lstrip().startswith(b"data:"):
        return [json.loads(line[5:]) for line in exchange.body.decode().splitlines() if line.startswith("data:")]
    found = exchange.json()
    return found if isinstance(found, list) else [found]


def states(exchange: Exchange) -> list[tuple[str, str]]:
    """The thought signatures of the answer in order, each with the kind of part it came with."""
    return [
        (next((kind for kind in ("functionCall", "text") if kind in part), "native"), part["thoughtSignature"])
        for record in answers(exchange)
        for part in parts(record)
        if "thoughtSignature" in part
    ]


def natives(exchange: Exchange) -> list[dict[str, Any]]:
    """The parts of the answer that only Gemini understands."""
    neutral = {"text", "functionCall", "inlineData"}
    return [part for record in answers(exchange) for part in parts(record) if neutral.isdisjoint(part)]


def extras(exchange: Exchange) -> dict[str, Any]:
    """The fields of the answer's candidate that have no neutral form."""
    typed = {"content", "finishReason", "index"}
    candidates = [candidate for record in answers(exchange) for candidate in record.get("candidates", [])]
    return {key: value for candidate in candidates for key, value in candidate.items() if key not in typed}


def differences(sent: dict[str, Any], recorded: dict[str, Any]) -> list[str]:
    """Where what was sent upstream differs in meaning from what was recorded, one line each.

    Not counted: snake case for camel case, which the API reads alike; the role of a system instruction, which it does
    not read; a content without a role for one of the user; an empty or null description, and an empty generation
    config, for absent; `parameters` for `parametersJsonSchema` and `responseSchema` for `responseJsonSchema`, which
    name one schema; the order of tools; the alphabet of base64.
    """
    return _compare(_normal(sent), _normal(recorded), "")


def _model(exchange: Exchange) -> str:
    return exchange.path.removeprefix("/v1beta/models/").partition(":")[0]


def _camel(value: Any) -> Any:
    """`value` with its field names in camel case, the caller's own JSON left as it is."""
    if isinstance(value, list):
        return [_camel(item) for item in value]
    if not isinstance(value, dict):
        return value
    renamed = {_camel_name(key): item for key, item in value.items()}
    return {key: item if key in _OPAQUE else _camel(item) for key, item in renamed.items()}


def _camel_name(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.title() for word in others)


def _embedding(model: str, request: dict[str, Any]) -> dict[str, Any]:
    requests = request["requests"]
    native = {key: value for key, value in requests[0].items() if key not in {"content", "model"}}
    body: dict[str, Any] = {
        "model": model,
        "input": [part["text"] for one in requests for part in one["content"]["parts"]],
    }
    if "outputDimensionality" in native:
        body["dimensions"] = native.pop("outputDimensionality")
    return body | ({"provider_options": {"gemini": native}} if native else {})


def _messages(request: dict[str, Any]) -> list[dict[str, Any]]:
    messages = [
        {"role": "system", "content": part["text"]} for part in request.get("systemInstruction", {}).get("parts", [])
    ]
    for content in request["contents"]:
        messages += _assistant(content["parts"]) if content.get("role") == "model" else _user(content["parts"])
    return messages


def _assistant(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    message: dict[str, Any] = {"role": "assistant", "content": None}
    for part in parts:
        signature = {}
        if "thoughtSignature" in part:
            signature = {"extra_content": {"google": {"thought_signature": part["thoughtSignature"]}}}
        if "functionCall" in part:
            call = part["functionCall"]
            function = {"name": call["name"], "arguments": json.dumps(call.get("args", {}))}
            made = {"id": call["id"], "type": "function", "function": function, **signature}
            message.setdefault("tool_calls", []).append(made)
        else:
            message["content"] = (message["content"] or "") + part["text"]
            message |= signature
    return [message]


def _user(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    messages = [_result(part["functionResponse"]) for part in parts if "functionResponse" in part]
    others = [part for part in parts if "functionResponse" not in part]
    if others:
        texts_only = len(others) == 1 and "text" in others[0]
        messages.append({"role": "user", "content": others[0]["text"] if texts_only else [_part(p) for p in others]})
    return messages


def _result(response: dict[str, Any]) -> dict[str, Any]:
    content: Any = json.dumps(response["response"]) if response["response"] else ""
    if "parts" in response:
        texts = [{"type": "text", "text": content}] if content else []
        content = [*texts, *(_part(part) for part in response["parts"])]
    return {"role": "tool", "tool_call_id": response["id"], "content": content or "{}"}


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if "text" in part:
        return {"type": "text", "text": part["text"]}
    if "fileData" in part:
        stored = part["fileData"]
        name = f"file.{_ENDINGS[stored['mimeType']]}"
        return {"type": "file", "file": {"file_id": stored["fileUri"], "filename": name}}
    kind, data = part["inlineData"]["mimeType"], _standard(part["inlineData"]["data"])
    url = f"data:{kind};base64,{data}"
    if kind.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": url}}
    return {"type": "file", "file": {"file_data": url, "filename": f"file.{_ENDINGS[kind]}"}}


def _standard(data: str) -> str:
    """Base64 in the alphabet of data URLs; the API also reads the one of addresses."""
    return data.translate(str.maketrans("-_", "+/"))


def _generation(config: dict[str, Any], body: dict[str, Any], native: dict[str, Any]) -> None:
    rest: dict[str, Any] = {}
    schema = config.pop("responseJsonSchema", None) or config.pop("responseSchema", None)
    if config.pop("responseMimeType", None) == "application/json":
        body["response_format"] = {"type": "json_object"}
    if schema is not None:
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    thinking = config.pop("thinkingConfig", {})
    if "includeThoughts" in thinking:
        body["reasoning"] = {"exclude": not thinking.pop("includeThoughts")}
    if thinking:
        rest["thinkingConfig"] = thinking
    for key, value in config.items():
        (body if key in _OPTIONS else rest)[_OPTIONS.get(key, key)] = value
    if rest:
        native["generationConfig"] = rest


def _tools(tools: list[dict[str, Any]], body: dict[str, Any], native: dict[str, Any]) -> None:
    declared = [function for tool in tools for function in tool.get("functionDeclarations", [])]
    if declared:
        body["tools"] = [{"type": "function", "function": _function(function)} for function in declared]
    if others := [tool for tool in tools if "functionDeclarations" not in tool]:
        native["tools"] = others


def _function(declared: dict[str, Any]) -> dict[str, Any]:
    function = {"name": declared["name"], "description": declared.get("description") or ""}
    schema = declared.get("parametersJsonSchema", declared.get("parameters"))
    return function | ({"parameters": schema} if schema is not None else {})


def _tool_choice(config: dict[str, Any], body: dict[str, Any], native: dict[str, Any]) -> None:
    calling = config.pop("functionCallingConfig", {})
    if calling:
        body["tool_choice"] = _MODES[calling["mode"]]
        names = calling.get("allowedFunctionNames")
        if names:
            listed = [{"type": "function", "function": {"name": name}} for name in names]
            allowed = {"mode": body["tool_choice"], "tools": listed}
            body["tool_choice"] = {"type": "allowed_tools", "allowed_tools": allowed}
    if config:
        native["toolConfig"] = config


def _failure(exchange: Exchange) -> tuple[int, str]:
    if b"API_KEY_INVALID" in exchange.body:
        return 502, "UPSTREAM_AUTH"
    return (429, "UPSTREAM_QUOTA") if b"PerDay" in exchange.body else _STATUSES[exchange.status]


def parts(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The parts of a record of the answer."""
    return [part for one in record.get("candidates", []) for part in one.get("content", {}).get("parts", [])]


def _counts(records: list[dict[str, Any]]) -> dict[str, int]:
    """The highest value of each count."""
    counts: dict[str, int] = {}
    for record in records:
        for key, value in record.get("usageMetadata", {}).items():
            if isinstance(value, int):
                counts[key] = max(value, counts.get(key, 0))
    return counts


def _normal(body: dict[str, Any]) -> Any:
    body = _camel(body)
    body.get("systemInstruction", {}).pop("role", None)
    for content in body.get("contents", []):
        content.setdefault("role", "user")
        for blob in [part["inlineData"] for part in content["parts"] if "inlineData" in part]:
            blob["data"] = _standard(blob["data"])
    config = body.get("generationConfig", {})
    if "responseSchema" in config:
        config["responseJsonSchema"] = config.pop("responseSchema")
    if not config:
        body.pop("generationConfig", None)
    for tool in body.get("tools", []):
        tool["functionDeclarations"] = [_normal_function(one) for one in tool.get("functionDeclarations", [])]
    if "tools" in body:
        body["tools"] = sorted(body["tools"], key=json.dumps)
    return body


def _normal_function(declared: dict[str, Any]) -> dict[str, Any]:
    renamed = {"parametersJsonSchema" if key == "parameters" else key: value for key, value in declared.items()}
    return {key: value for key, value in renamed.items() if key != "description" or value}


def _compare(sent: Any, recorded: Any, path: str) -> list[str]:
    if isinstance(sent, dict) and isinstance(recorded, dict):
        return [
            line
            for key in [*recorded, *(key for key in sent if key not in recorded)]
            for line in _compare(sent.get(key, "(nothing)"), recorded.get(key, "(nothing)"), f"{path}.{key}")
        ]
    if isinstance(sent, list) and isinstance(recorded, list) and len(sent) == len(recorded):
        pairs = enumerate(zip(sent, recorded, strict=True))
        return [line for index, (one, other) in pairs for line in _compare(one, other, f"{path}[{index}]")]
    if sent == recorded:
        return []
    return [f"{path}: sent {str(sent)[:80]}, recorded {str(recorded)[:80]}"]
