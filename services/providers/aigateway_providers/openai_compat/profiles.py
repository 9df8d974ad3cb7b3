"""How the hosts that speak OpenAI's protocol differ from OpenAI: one row each; models of a host are in `families`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from aigateway_common import model_facts

from aigateway_providers.openai_compat import families

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aigateway_common.model_facts import Facts

    from aigateway_providers.openai_compat.families import Family


@dataclass(frozen=True, slots=True)
class HostProfile:
    """One host's differences; the defaults are OpenAI's own API."""

    prefix: str = ""
    """What stands between the base URL and `/chat/completions`."""
    unsupported: tuple[str, ...] = ()
    """Request fields that the host refuses."""
    message_unsupported: tuple[str, ...] = ()
    """Fields of a message that the host refuses."""
    refusals: bool = True
    """It takes an earlier turn's refusal; elsewhere that is text."""
    several: bool = True
    """It takes `n` above 1."""
    developer: bool = True
    """It knows the role `developer`; elsewhere that is `system`."""
    allowed_tools: bool = True
    """It takes the tool choice `allowed_tools`; elsewhere the list of tools is cut down to those."""
    responses: bool = False
    """It offers the Responses API as the gateway uses it: without state, reasoning encrypted."""
    embeddings: bool = True
    """It embeds."""
    files: bool = True
    """It reads documents and sound."""
    completion_tokens_only: tuple[str, ...] = ()
    """Beginnings of model names that refuse `max_tokens` and want `max_completion_tokens`."""
    reasoning_field: str = ""
    """Where an earlier turn's reasoning goes in an assistant message; nowhere when empty."""
    reasoning_models: tuple[str, ...] = ()
    """Parts of the names of the models that take it there."""
    shows_reasoning: bool = False
    """It shows the reasoning itself, and leaves it out when told to by `include_reasoning` or `reasoning_format`."""
    schemas_listed: bool = False
    """Only the models that our facts say so of follow a JSON Schema; the others write JSON, and are told the schema."""
    strict_schemas: tuple[str, ...] = ()
    """Where schemas are listed: the models that take `strict`."""
    json_with_tools: bool = True
    """It takes a response format beside tools."""
    families: tuple[Family, ...] = ()
    """What is known of its models' ways."""
    facts: str = ""
    """The name by which our facts know its models; empty when they may be anybody's."""
    own_domain: str = ""
    """The only addresses where its models are known to be its own; any when empty."""

    def family(self, model: str) -> Family:
        """The family of a model."""
        return families.find(self.families, model)

    def known(self, model: str) -> Facts | None:
        """Our facts about a model."""
        return model_facts.find(self.facts, model)

    def reasons(self, model: str) -> bool | None:
        """Whether a model reasons; None when that is not known."""
        if self.family(model) is not families.UNKNOWN:
            return True
        facts = self.known(model)
        return facts.reasoning if facts else None


_OPENAI: Final = HostProfile(
    responses=True,
    # https://platform.openai.com/docs/api-reference/chat/create: `max_tokens` is not compatible with o-series models.
    completion_tokens_only=("o1", "o3", "o4", "gpt-5"),
    families=families.OPENAI,
    facts="openai",
    own_domain="openai.com",
)

_GROQ: Final = HostProfile(
    prefix="/openai/v1",
    # https://console.groq.com/docs/openai: these, `messages[].name` and `n` above 1 are answered with 400.
    unsupported=("logprobs", "top_logprobs", "logit_bias"),
    # Its assistant messages have no annotations, which histories of other hosts bring along.
    message_unsupported=("name", "annotations"),
    refusals=False,
    several=False,
    developer=False,
    allowed_tools=False,
    embeddings=False,
    files=False,
    # https://console.groq.com/docs/api-reference#chat-create: only on models that reason.
    reasoning_field="reasoning",
    reasoning_models=("gpt-oss", "qwen3", "deepseek-r1"),
    shows_reasoning=True,
    # https://console.groq.com/docs/structured-outputs: listed models only; no format beside tools.
    schemas_listed=True,
    strict_schemas=("openai/gpt-oss-20b", "openai/gpt-oss-120b"),
    json_with_tools=False,
    families=families.GROQ,
    facts="groq",
)

PROFILES: Final[Mapping[str, HostProfile]] = {"openai": _OPENAI, "groq": _GROQ}
"""By the provider's kind."""


def profile_of(kind: str, base_url: str) -> HostProfile:
    """The profile of a kind of host at an address: elsewhere than at home, its models may be anybody's."""
    profile = PROFILES[kind]
    host = urlsplit(base_url).hostname or ""
    if not profile.own_domain or host == profile.own_domain or host.endswith(f".{profile.own_domain}"):
        return profile
    return replace(profile, families=(), facts="")
