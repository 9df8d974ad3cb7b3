"""The strict JSON schemas of Kubernetes releases, which the wheel `kubernetes-validate` brings.

Its own `validate` reads some megabytes for each resource; here each is read once.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any, Final

import jsonschema
from referencing import Registry, Resource

FOLDER: Final = files("kubernetes_validate") / "kubernetes-json-schema"
NEWEST: Final = max(
    (tuple(int(part) for part in entry.name[1:].split("-")[0].split(".")) for entry in FOLDER.iterdir()),
    default=(0, 0, 0),
)


def version(release: tuple[int, ...]) -> str:
    """`1.30` of (1, 30, 0)."""
    return f"{release[0]}.{release[1]}"


def problems(resource: dict[str, Any], release: str) -> list[str]:
    """What is wrong with `resource` on Kubernetes `release`; unknown fields are wrong too."""
    group = resource["apiVersion"].partition("/")[0].partition(".")[0]
    rest = resource["apiVersion"].partition("/")[2]
    kind = f"{resource['kind'].lower()}-{group}" + (f"-{rest}" if rest else "")
    errors = _validator(kind, release).iter_errors(resource)
    return [f"{'.'.join(map(str, error.path))}: {error.message}" for error in errors]


@cache
def _validator(kind: str, release: str) -> Any:
    schema = _read(f"{kind}.json", release)
    return jsonschema.Draft202012Validator(schema, registry=_registry(release))


@cache
def _registry(release: str) -> Registry[Any]:
    definitions: Resource[Any] = Resource.from_contents(_read("_definitions.json", release))
    return definitions @ Registry[Any]()


def _read(name: str, release: str) -> Any:
    return json.loads((FOLDER / f"v{release}.0-local-strict" / name).read_text(encoding="utf-8"))
