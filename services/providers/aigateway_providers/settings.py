"""Settings of one provider's adapter."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """One provider: who it is, where it is, and how long to wait for it."""

    name: str
    """The provider's name in this gateway, such as `openai`; the part of `provider/model` before the slash."""
    kind: str
    """Which registry row serves it; the same as `name` unless the configuration adds a second upstream of a kind."""
    base_url: str
    """The upstream address as that provider's official SDK takes it."""
    api_key: str = field(default="", repr=False)
    """The provider's key; empty where none is needed."""
    connect_timeout: float = 10.0
    """Seconds to open a connection, TLS included."""
    first_byte_timeout: float = 600.0
    """Seconds from the call to the first byte of the answer's body, the wait for a free connection included.

    An answer that is not streamed has its first byte after its last token was written, so this covers the whole
    generation there. OpenAI's own client waits as long (https://github.com/openai/openai-python#timeouts).
    """
    idle_timeout: float = 300.0
    """Seconds without a byte in the middle of an answer: models that think are silent for minutes."""
    total_timeout: float = 3600.0
    """Seconds from the call to the last byte of the answer, however steadily it comes."""
    max_connections: int = 1000
    """Open upstream connections at most; a call beyond them waits for a free one."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Extra headers for each upstream request (`anthropic-beta`, `OpenAI-Organization`)."""
    default_max_tokens: Mapping[str, int] = field(default_factory=dict)
    """Tokens to ask for when the caller sets no limit and one is demanded, by model pattern (`*` for the rest)."""
    model_options: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """Provider-specific request fields by model pattern, such as Ollama's `num_ctx`."""
    media_max_bytes: int = 20 * 1024 * 1024
    """Bytes of media that are fetched for one call at most, where the provider takes bytes and no addresses."""
    media_timeout: float = 10.0
    """Seconds that fetching one of them may take, redirects included."""
    media_allow_private: bool = False
    """Media may come from loopback and private networks too; whoever may call then reaches those by the gateway."""
    pace: float = 0.0
    """Sandbox only: seconds between streamed words."""
