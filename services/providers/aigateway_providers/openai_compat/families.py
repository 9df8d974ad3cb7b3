"""What families of models take differently from others on the same host, found by the model's name.

Data, and what is done by it; only of models that a provider's documents name. A model that no row fits, and any model
behind an address that is not the provider's own, is sent what the caller wrote: the host knows better than a guess.
Whether a model reasons or follows a schema stands in `aigateway_common.model_facts`, which model lists are made of too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aigateway_providers.report import Report


@dataclass(frozen=True, slots=True)
class Family:
    """One family of models that reason."""

    models: re.Pattern[str]
    """Matches their whole names."""
    efforts: Mapping[str, str] = field(default_factory=dict)
    """Reasoning efforts that they lack, and the nearest they have; empty where that is to say nothing."""
    sampling: Literal["free", "fixed", "fixed while reasoning"] = "free"
    """Whether they take sampling other than the default; by default the last kind does not reason."""
    switch: Literal["", "reasoning_format"] = ""
    """`reasoning_format`: they mix their reasoning into the text unless told otherwise by it."""


UNKNOWN: Final = Family(re.compile(r"(?!)"))
"""The family of models that nothing is known of."""

FIXED: Final = "this model takes the default only while it reasons"
UNREASONING: Final = "this model does not reason"

_DATED: Final = r"(?:-\d{4}-\d{2}-\d{2})?"


def _names(pattern: str) -> re.Pattern[str]:
    return re.compile(f"(?:{pattern}){_DATED}")


OPENAI: Final = (
    # https://platform.openai.com/docs/guides/reasoning and .../guides/latest-model ("parameter compatibility"): these
    # refuse any temperature, top_p, penalty, logprobs and logit_bias but the default.
    Family(
        _names("o1|o3|o3-mini|o4-mini"),
        efforts={"none": "low", "minimal": "low", "xhigh": "high", "max": "high", "default": ""},
        sampling="fixed",
    ),
    Family(
        _names("gpt-5|gpt-5-mini|gpt-5-nano"),
        efforts={"none": "minimal", "xhigh": "high", "max": "high", "default": ""},
        sampling="fixed",
    ),
    Family(_names("o1-pro|o3-pro|gpt-5-pro|gpt-5-codex"), efforts={"default": ""}, sampling="fixed"),
    # The same page: these take temperature, top_p and logprobs with the effort `none`, which is their default.
    Family(
        _names("gpt-5\\.1"),
        efforts={"minimal": "low", "xhigh": "high", "max": "high", "default": ""},
        sampling="fixed while reasoning",
    ),
    Family(
        _names("gpt-5\\.[24]"),
        efforts={"minimal": "low", "max": "xhigh", "default": ""},
        sampling="fixed while reasoning",
    ),
)

GROQ: Final = (
    # https://console.groq.com/docs/reasoning: gpt-oss has efforts low to high and shows its reasoning apart by itself;
    # the others know on and off only, and write <think> into the text unless `reasoning_format` says otherwise.
    Family(
        re.compile(r"openai/gpt-oss-(?:safeguard-)?\d+b"),
        efforts={"none": "low", "minimal": "low", "xhigh": "high", "max": "high", "default": ""},
    ),
    Family(
        re.compile(r"qwen/qwen3(?:\.\d+)?-\d+b|qwen-qwq-32b|deepseek-r1-distill-.+"),
        efforts=dict.fromkeys(("minimal", "low", "medium", "high", "xhigh", "max"), "default"),
        switch="reasoning_format",
    ),
)

_DEFAULTS: Final[Mapping[str, object]] = {
    "temperature": 1,
    "top_p": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "logprobs": False,
    "top_logprobs": 0,
    "logit_bias": {},
}
"""What fixed sampling is fixed to (https://platform.openai.com/docs/api-reference/chat/create)."""


def find(families: tuple[Family, ...], model: str) -> Family:
    """The family of the model."""
    return next((family for family in families if family.models.fullmatch(model)), UNKNOWN)


def nearest_effort(effort: str, family: Family, report: Report) -> str:
    """The effort to ask for; empty when that is to say nothing."""
    nearest = family.efforts.get(effort, effort)
    if nearest not in {"", effort}:
        report.clamped("reasoning_effort", f"{effort} to {nearest}")
    return nearest


def drop_reasoning(effort: str, field: str, report: Report) -> None:
    """Note that a model which does not reason is not told how much to; not at all is what it does anyway."""
    if effort not in {"", "none", "default"}:
        report.dropped(field, UNREASONING)


def samples_freely(family: Family, effort: str) -> bool:
    """Whether the model takes other sampling than its default at this effort (empty when none is asked for)."""
    return family.sampling == "free" or (family.sampling != "fixed" and effort in {"", "none"})


def fix_sampling(body: dict[str, object], family: Family, effort: str, report: Report) -> None:
    """Take the sampling that the model refuses out of `body`, and report what was no default."""
    if samples_freely(family, effort):
        return
    for name, default in _DEFAULTS.items():
        if name in body and orjson.loads(orjson.dumps(body.pop(name))) not in (None, default):
            report.dropped(name, FIXED)
