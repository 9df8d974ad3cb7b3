"""The model list: `GET /models`; pure.

https://platform.openai.com/docs/api-reference/models/list; Groq adds limits and whether a model is in service
(https://console.groq.com/docs/api-reference#models-list).
"""

from __future__ import annotations

from typing import Any

import orjson
from aigateway.v1 import model_pb2

from aigateway_providers.openai_compat.response import whole


def to_models(body: dict[str, Any], provider: str) -> list[model_pb2.Model]:
    """The models in service. Raises KeyError, TypeError or ValueError when `body` is no list of models."""
    return [_model(entry, provider) for entry in body["data"] if entry.get("active") is not False]


def _model(entry: dict[str, Any], provider: str) -> model_pb2.Model:
    return model_pb2.Model(
        id=entry["id"],
        provider=provider,
        upstream_model=entry["id"],
        created=whole(entry.get("created")),
        owned_by=entry.get("owned_by") or "",
        context_window=entry.get("context_window"),
        max_output_tokens=entry.get("max_completion_tokens"),
        native_json=orjson.dumps(entry),
    )
