"""Strict schemas of the custom resources in our manifests, from `tests/deploy/schemas`; its README says whence."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Final

import jsonschema
import yaml

FOLDER: Final = Path(__file__).resolve().parents[1] / "deploy" / "schemas"
GROUPS: Final = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))
"""The groups of which there are schemas."""


def problems(resource: dict[str, Any]) -> list[str]:
    """What is wrong with `resource`; unknown fields are wrong, and so are unknown kinds."""
    group, _, version = resource["apiVersion"].partition("/")
    name = f"{version}/{resource['kind']}"
    if name not in _group(group):
        return [f"no schema of {name} in `{group}.yaml`"]
    errors = _validator(group, name).iter_errors(resource)
    return [f"{'.'.join(map(str, error.path))}: {error.message}" for error in errors]


@cache
def _group(group: str) -> dict[str, Any]:
    found: dict[str, Any] = _strict(yaml.safe_load((FOLDER / f"{group}.yaml").read_text(encoding="utf-8")))
    return found


@cache
def _validator(group: str, name: str) -> Any:
    schemas = _group(group)
    fields = {"apiVersion": {}, "kind": {}, "metadata": {}, "spec": schemas[name]}
    whole = {"$defs": schemas.get("$defs", {}), "required": list(fields), "properties": fields}
    return jsonschema.Draft202012Validator(_strict(whole))


def _strict(schema: Any) -> Any:
    """The schema in which whatever has `properties` is an object that has no others; alternatives only narrow."""
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    deep = {key: value if key == "oneOf" else _strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict):
        deep |= {"type": "object", "additionalProperties": False}
    return deep
