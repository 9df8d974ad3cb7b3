"""The smallest JSON value that fits a JSON Schema.

Deterministic: required members only, first alternatives, lower bounds. Covers what tool and answer schemas use; a
`pattern` is not solved, and a schema that can only be met by an endless value is refused.
"""

from __future__ import annotations

import math
from typing import Any, Final

from aigateway_common.errors import GatewayError, invalid

MAX_DEPTH: Final = 32

_FORMATS: Final = {
    "date": "2000-01-01",
    "time": "00:00:00Z",
    "date-time": "2000-01-01T00:00:00Z",
    "duration": "PT0S",
    "email": "sandbox@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def sample(schema: Any, param: str) -> Any:
    """A value that fits `schema`, itself found at `param` of the request.

    Raises:
        GatewayError: INVALID_REQUEST naming `param`, when there is none, or none within 32 levels.
    """
    return _Sampler(schema, param).value(schema, 0)


class _Sampler:
    def __init__(self, root: Any, param: str) -> None:
        self._root = root
        self._param = param
        self._open = {"#"}
        """The references being followed: coming back to one of them would have no end."""

    def value(self, schema: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise self._refused("nests without end")
        if schema is True or schema == {}:
            return "sandbox"
        if not isinstance(schema, dict):
            raise self._refused("allows no value")
        for key in ("const", "default"):
            if key in schema:
                return schema[key]
        for key in ("enum", "examples"):
            if schema.get(key):
                return schema[key][0]
        if "$ref" in schema:
            return self._referred(schema["$ref"], depth)
        return self._composed(schema, depth)

    def _referred(self, ref: str, depth: int) -> Any:
        if ref in self._open:
            raise self._refused("nests without end")
        self._open.add(ref)
        try:
            return self.value(self._resolve(ref), depth + 1)
        finally:
            self._open.discard(ref)

    def _composed(self, schema: dict[str, Any], depth: int) -> Any:
        if schema.get("allOf"):
            return self.value(self._joined(schema), depth + 1)
        for key in ("anyOf", "oneOf"):
            if schema.get(key):
                return self._first_of(schema[key], depth + 1)
        return self._typed(schema, depth)

    def _typed(self, schema: dict[str, Any], depth: int) -> Any:
        match _type(schema):
            case "object":
                members = schema.get("properties", {})
                return {name: self.value(members.get(name, {}), depth + 1) for name in schema.get("required", ())}
            case "array":
                return self._array(schema, depth)
            case "string":
                return _string(schema)
            case "integer" | "number" as kind:
                return _number(schema, whole=kind == "integer")
            case "boolean":
                return False
            case "null":
                return None
            case kind:
                raise self._refused(f"has the unknown type `{kind}`")

    def _array(self, schema: dict[str, Any], depth: int) -> list[Any]:
        fixed = schema.get("prefixItems", [])
        count = max(schema.get("minItems", 0), 0)
        kinds = [*fixed, *[schema.get("items", {})] * max(0, count - len(fixed))][:count]
        return [self.value(kind, depth + 1) for kind in kinds]

    def _first_of(self, alternatives: list[Any], depth: int) -> Any:
        """The first alternative that has a value: a recursive one may need the next to end."""
        for alternative in alternatives[:-1]:
            try:
                return self.value(alternative, depth)
            except GatewayError:
                continue
        return self.value(alternatives[-1], depth)

    def _joined(self, schema: dict[str, Any]) -> dict[str, Any]:
        joined = {key: value for key, value in schema.items() if key != "allOf"}
        for part in schema["allOf"]:
            resolved = self._resolve(part["$ref"]) if isinstance(part, dict) and "$ref" in part else part
            if not isinstance(resolved, dict):
                continue
            properties = {**joined.get("properties", {}), **resolved.get("properties", {})}
            required = [*joined.get("required", []), *resolved.get("required", [])]
            joined = {**resolved, **joined}
            if properties:
                joined["properties"] = properties
            if required:
                joined["required"] = list(dict.fromkeys(required))
        return joined

    def _resolve(self, ref: str) -> Any:
        target = self._root
        if ref != "#":
            for step in ref.removeprefix("#/").split("/"):
                name = step.replace("~1", "/").replace("~0", "~")
                if not isinstance(target, dict) or name not in target:
                    raise self._refused(f"refers to `{ref}`, which is not in it")
                target = target[name]
        return target

    def _refused(self, why: str) -> GatewayError:
        return invalid(self._param, f"`{self._param}` {why}")


def _type(schema: dict[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = kind[0] if kind else None
    if isinstance(kind, str):
        return kind
    if "properties" in schema or "required" in schema:
        return "object"
    return "array" if "items" in schema else "string"


def _string(schema: dict[str, Any]) -> str:
    text = _FORMATS.get(schema.get("format", ""), "sandbox")
    if (shortest := schema.get("minLength", 0)) > len(text):
        text += "x" * (shortest - len(text))
    return text[: schema.get("maxLength", len(text))]


def _number(schema: dict[str, Any], *, whole: bool) -> int | float:
    step = schema.get("multipleOf") or (1 if whole else 0)
    value: float = schema.get("minimum", 0)
    if "exclusiveMinimum" in schema:
        value = max(value, schema["exclusiveMinimum"] + (step or 1))
    highest = schema.get("maximum", schema.get("exclusiveMaximum", math.inf))
    if value > highest or ("exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"]):
        value = highest if "maximum" in schema else highest - (step or 1)
    if step:
        value = math.ceil(value / step) * step
    return int(value) if whole else value
