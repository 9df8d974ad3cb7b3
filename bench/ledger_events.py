"""Events of a busy gateway: many models, projects and days, most of them answered; the same ones for the same seed."""

from __future__ import annotations

import random
import uuid
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from aigateway.v1 import tokens_pb2, usage_service_pb2
from aigateway_common.ids import new_id
from aigateway_usage.settings import PriceOverride

if TYPE_CHECKING:
    from collections.abc import Iterator

PROVIDERS, MODELS, PROJECTS, KEYS = 5, 30, 50, 3
"""Models are spread over the providers; each project has so many keys."""
DAY_US: Final = 86_400_000_000
FIRST_US: Final = 1_782_864_000_000_000
"""1 July 2026, 00:00 UTC: where events begin."""
PRICES: Final = {f"provider-{number}/*": PriceOverride(0.25, 1.25, cache_read=0.025) for number in range(PROVIDERS)}

_OK = usage_service_pb2.ATTEMPT_STATUS_OK
_STATUSES: Final = (_OK, usage_service_pb2.ATTEMPT_STATUS_ERROR, usage_service_pb2.ATTEMPT_STATUS_CANCELLED)
_ZIPF: Final = [list(accumulate(1 / rank for rank in range(1, count + 1))) for count in (MODELS, PROJECTS)]


def events(count: int, first_us: int, last_us: int, seed: int) -> Iterator[usage_service_pb2.Attempt]:
    """`count` attempts at even distances between two times, in their order."""
    chance = random.Random(seed)
    for number in range(count):
        yield _event(chance, first_us + (last_us - first_us) * number // count)


def _event(chance: random.Random, at_us: int) -> usage_service_pb2.Attempt:
    (model,) = chance.choices(range(MODELS), cum_weights=_ZIPF[0])
    (project,) = chance.choices(range(PROJECTS), cum_weights=_ZIPF[1])
    (status,) = chance.choices(_STATUSES, (96, 3, 1))
    name = f"model-{model:02}"
    own = chance.random() < 0.1  # callers that name their calls themselves do it at random
    duration = int(chance.lognormvariate(14, 0.8))
    failed: dict[str, Any] = {"error_reason": "UPSTREAM_ERROR", "error_message": "it broke", "upstream_status": 503}
    return usage_service_pb2.Attempt(
        event_id=_id(chance, at_us),
        request_id=str(uuid.UUID(int=chance.getrandbits(128))) if own else _id(chance, at_us),
        attempt=1,
        project=f"project-{project:02}",
        key_id=f"key-{project:04}{chance.randrange(KEYS):04}",
        operation=usage_service_pb2.OPERATION_STREAM_CHAT,
        provider=f"provider-{model % PROVIDERS}",
        requested_model=chance.choice((name, name, "smart")),
        sent_model=name,
        started_at_us=at_us,
        duration_us=duration,
        first_event_us=duration // 4,
        status=status,
        trace_id=f"{chance.getrandbits(128):032x}",
        **(_answered(chance, name) if status == _OK else failed),
    )


def _answered(chance: random.Random, name: str) -> dict[str, Any]:
    prompt, cached, output = chance.randrange(50, 8000), chance.choice((0, 0, 1024, 4096)), chance.randrange(1, 1500)
    native = (
        f'{{"prompt_tokens":{prompt + cached},"completion_tokens":{output},"total_tokens":{prompt + cached + output}}}'
    )
    return {
        "answered_model": f"{name}-2026-05-01",
        "finish_reason": "stop",
        "usage": tokens_pb2.TokenUsage(
            input_uncached=prompt, input_cache_read=cached, output_text=output, native_json=native.encode()
        ),
    }


def _id(chance: random.Random, at_us: int) -> str:
    """As the router makes them, but the same ones again."""
    return new_id(at_us * 1000)[:16] + f"{chance.getrandbits(62) | 1 << 63:016x}"
