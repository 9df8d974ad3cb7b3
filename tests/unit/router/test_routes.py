"""Where names lead."""

from __future__ import annotations

import pytest
from aigateway_common.errors import GatewayError
from aigateway_router.routes import Routes, Target
from hypothesis import given
from hypothesis import strategies as st

ALL = ("openai", "anthropic", "gemini", "groq", "ollama")


def routes(*enabled: str, aliases: dict[str, str] | None = None, groq_models: tuple[str, ...] = ()) -> Routes:
    disabled = {name: f"set {name.upper()}_API_KEY" for name in (*ALL, "sandbox") if name not in enabled}
    return Routes(enabled=enabled, disabled=disabled, aliases=aliases or {}, groq_models=groq_models)


def refused(table: Routes, name: str) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        table.resolve(name)
    return caught.value


def led(table: Routes, name: str) -> Target | GatewayError | None:
    try:
        return table.resolve(name)
    except GatewayError as error:
        return error


@pytest.mark.parametrize(
    ("name", "provider", "model"),
    [
        ("openai/gpt-4o", "openai", "gpt-4o"),
        ("groq/meta-llama/llama-4-scout-17b-16e-instruct", "groq", "meta-llama/llama-4-scout-17b-16e-instruct"),
        ("groq/compound", "groq", "groq/compound"),
        ("groq/openai/gpt-oss-120b", "groq", "openai/gpt-oss-120b"),
        ("ollama/gpt-4o", "ollama", "gpt-4o"),
        ("ollama/hf.co/bartowski/Llama-3.2-1B-GGUF:Q4_0", "ollama", "hf.co/bartowski/Llama-3.2-1B-GGUF:Q4_0"),
        ("openai/some-future-model", "openai", "some-future-model"),
        ("gpt-4o", "openai", "gpt-4o"),
        ("gpt-5.1-codex-mini", "openai", "gpt-5.1-codex-mini"),
        ("chatgpt-4o-latest", "openai", "chatgpt-4o-latest"),
        ("o1", "openai", "o1"),
        ("o3-mini", "openai", "o3-mini"),
        ("o4-mini-2025-04-16", "openai", "o4-mini-2025-04-16"),
        ("text-embedding-3-small", "openai", "text-embedding-3-small"),
        ("text-embedding-ada-002", "openai", "text-embedding-ada-002"),
        ("ft:gpt-4o-mini:org::id", "openai", "ft:gpt-4o-mini:org::id"),
        ("claude-sonnet-4-5", "anthropic", "claude-sonnet-4-5"),
        ("claude-3-5-haiku-latest", "anthropic", "claude-3-5-haiku-latest"),
        ("gemini-2.5-flash", "gemini", "gemini-2.5-flash"),
        ("gemini-embedding-001", "gemini", "gemini-embedding-001"),
        ("text-embedding-004", "gemini", "text-embedding-004"),
        ("gemma-3-27b-it", "gemini", "gemma-3-27b-it"),
        ("llama-3.3-70b-versatile", "groq", "llama-3.3-70b-versatile"),
        ("moonshotai/kimi-k2-instruct", "groq", "moonshotai/kimi-k2-instruct"),
        ("llama3.2", "ollama", "llama3.2"),
        ("gemma3:27b", "ollama", "gemma3:27b"),
        ("gpt-oss:20b", "ollama", "gpt-oss:20b"),
        ("o", "ollama", "o"),
        ("olmo2", "ollama", "olmo2"),
        ("mistral/mistral-large", "ollama", "mistral/mistral-large"),
    ],
)
def test_a_name_leads_to_its_provider(name: str, provider: str, model: str) -> None:
    assert routes(*ALL).resolve(name) == Target(provider, model)


def test_an_alias_leads_to_its_target_through_others() -> None:
    table = routes("anthropic", "ollama", aliases={"fast": "cheap", "cheap": "ollama/llama3.2", "gpt-4o": "fast"})
    assert table.resolve("fast") == Target("ollama", "llama3.2")
    assert table.resolve("gpt-4o") == Target("ollama", "llama3.2")
    assert table.aliases["cheap"] == Target("ollama", "llama3.2")


def test_registered_groq_models_go_to_groq() -> None:
    assert routes(*ALL, groq_models=("my-tuned",)).resolve("my-tuned") == Target("groq", "my-tuned")


def test_a_groq_name_that_begins_with_a_provider_goes_to_groq_where_that_provider_is_off() -> None:
    assert routes("groq").resolve("openai/gpt-oss-120b") == Target("groq", "openai/gpt-oss-120b")
    assert routes("groq", "openai").resolve("openai/gpt-oss-120b") == Target("openai", "gpt-oss-120b")


@pytest.mark.parametrize("name", ["openai/gpt-4o", "gpt-4o", "o3"])
def test_a_provider_that_is_off_says_how_to_enable_it(name: str) -> None:
    error = refused(routes("anthropic"), name)
    assert error.reason.name == "PROVIDER_DISABLED"
    assert error.message == "the provider `openai` is not enabled; set OPENAI_API_KEY"
    assert error.details == {"param": "model", "provider": "openai"}


@pytest.mark.parametrize("name", ["llama3.2", "openai/", "/", "", "nobody/knows"])
def test_without_ollama_the_rest_is_not_found(name: str) -> None:
    assert routes("openai").resolve(name) is None


def test_not_found_names_the_nearest() -> None:
    table = routes("openai", "anthropic", aliases={"sonnet": "anthropic/claude-sonnet-4-5"})
    error = table.not_found("sonet", ["openai/gpt-4o"])
    assert error.reason.name == "MODEL_NOT_FOUND"
    assert error.message == "no enabled provider has the model `sonet`; did you mean `sonnet`?"
    assert error.details == {"param": "model"}
    error = table.not_found("claud-sonnet-4-5", ["anthropic/claude-sonnet-4-5", "openai/gpt-4o"])
    assert "did you mean `anthropic/claude-sonnet-4-5`" in error.message


def test_not_found_without_anything_near_says_how_to_write_a_name() -> None:
    error = routes("openai", "groq").not_found("zzz", ["openai/gpt-4o"])
    assert error.message.endswith("write `provider/model`, with one of: `groq`, `openai`")


def test_with_the_sandbox_alone_errors_point_to_it() -> None:
    table = routes("sandbox")
    assert "`sandbox/echo`" in table.not_found("llama3", []).message
    assert "`sandbox/echo`" in refused(table, "gpt-4o").message
    assert table.resolve("sandbox/echo") == Target("sandbox", "echo")


@pytest.mark.parametrize(
    ("aliases", "says"),
    [
        ({"a": "b", "b": "a"}, "alias `a` goes in a circle: a -> b -> a"),
        ({"a": "a"}, "goes in a circle: a -> a"),
        ({"a": "nowhere"}, "alias `a` leads to `nowhere`, which is neither"),
        ({"a": "mars/model"}, "leads to `mars/model`"),
        ({"a": "openai/"}, "leads to `openai/`"),
        ({"openai/x": "openai/gpt-4o"}, "can never be used"),
        ({"": "openai/gpt-4o"}, "can never be used"),
    ],
)
def test_an_alias_that_leads_nowhere_is_refused_at_once(aliases: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says.replace("`", "`")):
        routes("openai", aliases=aliases)


def test_all_bad_aliases_are_named_together() -> None:
    with pytest.raises(ValueError, match=r"`a` leads to.*`b` leads to"):
        routes("openai", aliases={"a": "x", "b": "y", "c": "openai/gpt-4o"})


def test_an_alias_to_a_provider_that_is_off_is_kept_and_says_so_when_used() -> None:
    table = routes("openai", aliases={"sonnet": "anthropic/claude-sonnet-4-5"})
    assert refused(table, "sonnet").reason.name == "PROVIDER_DISABLED"


NAMES = st.text(alphabet=st.sampled_from("abgo4-/:. é"), max_size=12) | st.sampled_from(
    ["gpt-4o", "claude-3", "openai/x", "groq/a/b", "o1", "alias"]
)


@given(name=NAMES, enabled=st.sets(st.sampled_from(ALL)))
def test_every_name_leads_to_an_enabled_provider_or_is_refused(name: str, enabled: set[str]) -> None:
    table = routes(*enabled)
    target = led(table, name)
    if isinstance(target, GatewayError):
        assert target.reason.name == "PROVIDER_DISABLED"
        assert target.details["provider"] not in enabled
    elif target is None:
        assert table.not_found(name, []).reason.name == "MODEL_NOT_FOUND"
    else:
        assert target.provider in enabled
        assert target.model
        assert name.endswith(target.model)


@given(model=st.text(min_size=1, max_size=20), provider=st.sampled_from([one for one in ALL if one != "groq"]))
def test_an_explicit_model_always_wins(model: str, provider: str) -> None:
    table = routes(*ALL, aliases={"fast": "openai/gpt-4o"})
    assert table.resolve(f"{provider}/{model}") == Target(provider, model)


@given(edges=st.dictionaries(st.sampled_from("abcde"), st.sampled_from(["a", "b", "c", "d", "e", "openai/m", "x"])))
def test_aliases_end_at_a_model_or_are_refused(edges: dict[str, str]) -> None:
    def leads(name: str) -> bool:
        seen = set()
        while name in edges and name not in seen:
            seen.add(name)
            name = edges[name]
        return name == "openai/m"

    if all(leads(alias) for alias in edges):
        table = routes("openai", aliases=edges)
        assert all(table.resolve(alias) == Target("openai", "m") for alias in edges)
    else:
        with pytest.raises(ValueError, match="alias"):
            routes("openai", aliases=edges)


@given(name=st.text(max_size=300), known=st.lists(st.text(max_size=30), max_size=20))
def test_not_found_stays_short_whatever_is_asked_for(name: str, known: list[str]) -> None:
    assert len(routes("openai").not_found(name, known).message) < 500
