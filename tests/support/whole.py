"""The whole gateway with a stand-in behind it, as the integration tests share it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import openai

from support.gateway import Gateway
from support.ledger import wait_for
from support.replay import Answer, Upstream

KEY = "integration-key-0123456789"


@dataclass
class Whole:
    """A gateway with every provider at one stand-in."""

    gateway: Gateway
    upstream: Upstream

    def answer(self, *answers: Answer) -> None:
        """From now on the stand-in gives these, the last one again and again."""
        self.upstream.reset(*answers)

    def recorded(self, request_id: str, count: int = 1) -> list[dict[str, Any]]:
        """The ledger's rows of a call, once they are there."""
        return wait_for(self.gateway.data, count, f"select * from requests where request_id = '{request_id}'")

    def sdk(self, **options: object) -> openai.AsyncOpenAI:
        given = {"base_url": f"{self.gateway.http}/v1", "api_key": KEY, "max_retries": 0} | options
        return openai.AsyncOpenAI(**given)  # type: ignore[arg-type] # the SDK's own option names
