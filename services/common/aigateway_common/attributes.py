"""Names of span attributes, and nothing else: every service takes them from here.

GenAI names follow OpenTelemetry's semantic conventions
(https://opentelemetry.io/docs/specs/semconv/registry/attributes/gen-ai/); what those have no name for is `aigateway.*`.
They are written out, not imported, so that a process without tracing loads no OpenTelemetry package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

# What was asked.
OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"
REQUEST_TOP_K: Final = "gen_ai.request.top_k"
REQUEST_SEED: Final = "gen_ai.request.seed"
REQUEST_CHOICE_COUNT: Final = "gen_ai.request.choice.count"
OUTPUT_TYPE: Final = "gen_ai.output.type"
EMBEDDING_DIMENSIONS: Final = "gen_ai.embeddings.dimension.count"

# What was answered.
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
"""Seconds."""
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
"""All prompt tokens, those served by or written to a cache included."""
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
"""All output tokens, reasoning included."""
CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS: Final = "gen_ai.usage.cache_creation.input_tokens"
REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"

# Where it went.
ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
HTTP_METHOD: Final = "http.request.method"
HTTP_ROUTE: Final = "http.route"
HTTP_STATUS: Final = "http.response.status_code"
RPC_SYSTEM: Final = "rpc.system.name"
RPC_METHOD: Final = "rpc.method"

# The gateway's own.
REQUEST_ID: Final = "aigateway.request_id"
PROJECT: Final = "aigateway.project"
KEY_ID: Final = "aigateway.key_id"
"""The visible prefix of the caller's key, never the key."""
REQUESTED_MODEL: Final = "aigateway.model.requested"
"""The name the caller used; `gen_ai.request.model` is the one sent to the provider."""
ATTEMPT: Final = "aigateway.attempt"
"""Which attempt of the call, from 1."""
TRANSLATION: Final = "aigateway.translation"
"""The translation report, as in the header of that name."""
LATE_TRANSLATION: Final = "aigateway.translation.late"
"""What only the end of a stream added to it."""
ERROR_MESSAGE: Final = "aigateway.error.message"
UPSTREAM_TIME: Final = "aigateway.timing.upstream"
ADAPTER_TIME: Final = "aigateway.timing.adapter"
ROUTER_TIME: Final = "aigateway.timing.router"
EDGE_TIME: Final = "aigateway.timing.edge"
"""The four timings are seconds: each hop less the hops below it, as in `Server-Timing`."""

CHAT: Final = "chat"
"""`gen_ai.operation.name` of chat calls, streamed or not."""
EMBEDDINGS: Final = "embeddings"
COUNT_TOKENS: Final = "count_tokens"
"""`gen_ai.operation.name` of embeddings."""

_PROVIDER_NAMES: Final[Mapping[str, str]] = {"gemini": "gcp.gemini"}


def provider_name(provider: str) -> str:
    """The semantic conventions' word for one of our providers."""
    return _PROVIDER_NAMES.get(provider, provider)
