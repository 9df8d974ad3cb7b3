"""Which providers there are: an OpenAI-compatible one is one row; one with its own protocol is a row and a folder."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aigateway_providers.adapter import Adapter
    from aigateway_providers.settings import ProviderSettings


@dataclass(frozen=True, slots=True)
class ProviderRow:
    """What is known of a kind of provider before it is loaded."""

    kind: str
    """Its name, and the default name of its one instance."""
    title: str
    """Its name for people."""
    module: str
    """The adapter's module, loaded when first used; it has `create(settings) -> Adapter`."""
    base_url: str
    """The default upstream address."""
    key_env: tuple[str, ...] = ()
    """Environment variables that hold its key, first found wins; none when it needs no key."""
    url_env: tuple[str, ...] = ()
    """Environment variables that hold its address."""
    first_byte_timeout: float = 600.0
    """Seconds to the first byte of its answers, where the configuration sets none."""


def _rows(*rows: ProviderRow) -> dict[str, ProviderRow]:
    return {row.kind: row for row in rows}


PROVIDERS: Final[Mapping[str, ProviderRow]] = _rows(
    ProviderRow(
        "openai",
        "OpenAI",
        "aigateway_providers.openai_compat.adapter",
        "https://api.openai.com/v1",
        ("OPENAI_API_KEY",),
        ("OPENAI_BASE_URL",),
    ),
    ProviderRow(
        "anthropic",
        "Anthropic",
        "aigateway_providers.anthropic.adapter",
        "https://api.anthropic.com",
        ("ANTHROPIC_API_KEY",),
        ("ANTHROPIC_BASE_URL",),
    ),
    ProviderRow(
        "gemini",
        "Google Gemini",
        "aigateway_providers.gemini.adapter",
        "https://generativelanguage.googleapis.com",
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        ("GEMINI_BASE_URL",),
    ),
    ProviderRow(
        "groq",
        "Groq",
        "aigateway_providers.openai_compat.adapter",
        "https://api.groq.com",
        ("GROQ_API_KEY",),
        ("GROQ_BASE_URL",),
    ),
    ProviderRow(
        "ollama",
        "Ollama",
        "aigateway_providers.ollama.adapter",
        "http://localhost:11434",
        (),
        ("OLLAMA_URL", "LOCAL_LLM_BASE_URL"),
        # Loading a model may take minutes, and waits its turn behind others
        # (https://docs.ollama.com/faq#how-does-ollama-handle-concurrent-requests).
        first_byte_timeout=1800.0,
    ),
    ProviderRow("sandbox", "Sandbox (no provider)", "aigateway_providers.sandbox.adapter", ""),
)


def create_adapter(settings: ProviderSettings) -> Adapter:
    """The adapter for `settings`, its module loaded only now."""
    row = PROVIDERS[settings.kind]
    create = cast("Callable[[ProviderSettings], Adapter]", import_module(row.module).create)
    return create(settings)
