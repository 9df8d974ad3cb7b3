"""What the schemas of the OpenAPI document are made of. Not for any of them: see `openapi_schemas`."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def object_of(required: str, /, **properties: Schema) -> Schema:
    """An object that may hold more; `required` lists fields, separated by spaces."""
    found: Schema = {"type": "object", "properties": properties, "additionalProperties": True}
    if required:
        found["required"] = required.split()
    return found


def said(schema: Schema, about: str) -> Schema:
    """A schema with a description."""
    return schema | {"description": about}


def number(low: float, high: float) -> Schema:
    """A number within bounds, or null."""
    return {"type": ["number", "null"], "minimum": low, "maximum": high}


def integer(low: int, high: int | None = None) -> Schema:
    """An integer within bounds, or null."""
    return {"type": ["integer", "null"], "minimum": low} | ({} if high is None else {"maximum": high})


def list_of(items: Schema, **more: int) -> Schema:
    """A list."""
    return {"type": "array", "items": items} | more


def one_of(*words: str) -> Schema:
    """One of some words."""
    return {"type": "string", "enum": list(words)}


def ref(name: str) -> Schema:
    """A schema of the document by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


BUDGET: Schema = said(
    object_of(
        "id limit spent reserved resets_at",
        id={"type": "string"},
        limit={"type": ["number", "null"]},
        spent={"type": ["number", "null"]},
        reserved={"type": ["number", "null"]},
        resets_at={"type": ["string", "null"], "format": "date-time"},
    ),
    "With `budget_exceeded`: the budget that is spent, in US dollars, and when it begins anew.",
)
