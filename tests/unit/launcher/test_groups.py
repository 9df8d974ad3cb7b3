"""The services that `serve` takes by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from aigateway_common.settings import ConfigurationError
from aigateway_launcher.groups import Group, parse_group
from aigateway_launcher.plan import Overrides, make


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("ruoter", "serve: `ruoter` is not a service; did you mean `router`?"),
        ("provider:opnai", "serve: `provider:opnai` is not a service; did you mean `provider:openai`?"),
        ("xyz", "serve: `xyz` is not a service; there are `edge`, `router`, `usage` and `provider:openai`"),
        (" , ", "serve: name a service: `edge`, `router`, `usage` and `provider:openai`"),
        ("provider:groq", "serve: `provider:groq` is not enabled: set GROQ_API_KEY"),
    ],
)
def test_a_name_that_is_no_service_is_answered_with_the_nearest_or_with_all(
    given: str, said: str, tmp_path: Path
) -> None:
    plan = make(Overrides(data_dir=tmp_path), {"OPENAI_API_KEY": "key-of-openai"}, ollama_found=lambda: False)
    with pytest.raises(ConfigurationError) as caught:
        parse_group(given, plan)
    assert [str(problem) for problem in caught.value.problems] == [said]
    assert parse_group("router, usage", plan) == Group(router=True, usage=True)
