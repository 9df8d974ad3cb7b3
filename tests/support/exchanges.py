"""The recorded provider exchanges that tests read in place, never copied into the project."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("AIGATEWAY_FIXTURES", ROOT.parent / "shared" / "fixtures"))


@dataclass(frozen=True)
class Exchange:
    """One recorded request and its answer."""

    id: str
    provider: str
    operation: str
    features: frozenset[str]
    path: str
    request: Any
    """The request's JSON body."""
    status: int
    headers: dict[str, str]
    body: bytes
    """The answer's body as it was on the wire."""

    @property
    def streamed(self) -> bool:
        return "stream" in self.features

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class ToolCallSeen:
    """A tool call of an answer; `arguments` is the parsed JSON."""

    name: str
    arguments: Any
    id: str | None = None


@dataclass(frozen=True)
class Expected:
    """What a caller must get for an exchange, dug out of the recording by code of the tests' own."""

    status: int = 200
    """HTTP status at the edge."""
    error_reason: str | None = None
    """The gateway's reason, for failures."""
    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_calls: tuple[ToolCallSeen, ...] = ()
    finish_reason: str | None = None
    """In OpenAI's words."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    model: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@cache
def load(provider: str | None = None, operation: str | None = None) -> tuple[Exchange, ...]:
    """The exchanges of a provider and operation, by id; none where the folder is absent."""
    return tuple(
        exchange
        for path in sorted(FOLDER.glob("*/*.json"))
        for exchange in (_read(path),)
        if (provider is None or exchange.provider == provider)
        and (operation is None or exchange.operation == operation)
    )


def params(*exchanges: Exchange) -> list[Any]:
    """Pytest parameters named by id; one skipped parameter that says why when there are none."""
    if not exchanges:
        reason = f"no recorded exchanges at {FOLDER.name!r}; set AIGATEWAY_FIXTURES"
        return [pytest.param(None, id="fixtures-absent", marks=pytest.mark.skip(reason=reason))]
    return [pytest.param(exchange, id=exchange.id) for exchange in exchanges]


def _read(path: Path) -> Exchange:
    raw = json.loads(path.read_text())
    response = raw["response"]
    if response.get("body_base64"):
        body = base64.b64decode(
            response["body_base64"] if isinstance(response["body_base64"], str) else response["body"]
        )
    else:
        text = response.get("body") or ""
        body = text.encode() if isinstance(text, str) else json.dumps(text).encode()
    return Exchange(
        id=raw["id"],
        provider=raw["provider"],
        operation=raw["operation"],
        features=frozenset(raw["features"]),
        path=raw["request"]["path"],
        request=raw["request"].get("body"),
        status=response["status"],
        headers=response["headers"],
        body=body,
    )
