"""What `/admin` takes and answers about usage, alerts, acts and health, as documented models."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, Field, JsonValue

from aigateway_edge.admin.shapes import Given, Time

Status = Literal["ok", "error", "cancelled"]
Form = Literal["json", "csv"]
AlertWord = Literal["consecutive_errors", "latency_spike", "budget_threshold", "provider_down"]
BreakerWord = Literal["closed", "open", "half_open"]
HealthWord = Literal["unknown", "healthy", "degraded", "unhealthy"]

_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_MAX_VALUES: Final = 100


def _whole_day(value: Any) -> Any:
    """A day alone is the moment it begins, in UTC."""
    return f"{value}T00:00:00Z" if isinstance(value, str) and _DAY.fullmatch(value) else value


Moment = Annotated[AwareDatetime, BeforeValidator(_whole_day)]
Values = Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=_MAX_VALUES)]


class Asked(Given):
    """Which attempts, and in which form."""

    begin: Moment | None = Field(
        None, alias="from", description="Begun at or after: RFC 3339, or a day as YYYY-MM-DD, in UTC."
    )
    until: Moment | None = Field(None, description="Begun before.")
    model: Values = Field(default_factory=list, description="Only these models: requested, sent or answered.")
    provider: Values = Field(default_factory=list, description="Only these providers.")
    project: Values = Field(default_factory=list, description="Only these projects.")
    request_id: Annotated[str, Field(max_length=200)] = Field("", description="Only this call.")
    format: Form | None = Field(None, description="`csv` for CSV; `Accept: text/csv` asks for the same.")


class AskedSums(Asked):
    """Which attempts, and what they are summed up by."""

    status: list[Status] = Field(default_factory=list, max_length=3, description="Only these outcomes.")
    by: Annotated[str, Field(max_length=100)] | None = Field(
        None, description="`model`, `provider`, `project`, `status` and `day`, separated by commas."
    )


class AskedFailures(Asked):
    """Which failed attempts."""

    page_size: Annotated[int, Field(ge=1, le=1000)] = Field(100, description="The most to answer.")
    page_token: Annotated[str, Field(max_length=2000)] = Field("", description="`next_page_token` of the page before.")


class AskedAttempts(AskedFailures):
    """Which attempts."""

    status: list[Status] = Field(default_factory=list, max_length=3, description="Only these outcomes.")


class Sums(BaseModel):
    """One row of sums, with the keys that were asked for."""

    model: str = Field("", description="The model sent to the provider.")
    provider: str = ""
    project: str = ""
    status: str = ""
    day: str = Field("", description="UTC, as YYYY-MM-DD.")
    attempts: int
    errors: int
    cancelled: int
    input_tokens: int
    output_tokens: int
    cost_usd: float
    unpriced: int = Field(description="Attempts that used or may have used tokens whose cost nobody knows.")
    mean_duration_us: int = Field(description="Of the answered attempts; microseconds.")


class Summary(BaseModel):
    """Attempts summed up."""

    rows: list[Sums]


class Costs(BaseModel):
    """What attempts cost, the dearest first."""

    total_usd: float
    unpriced: int = Field(description="Attempts that are not in the total, because their cost is unknown.")
    rows: list[Sums]


class AttemptUsage(BaseModel):
    """Tokens by disjoint class, as in the contract; null where the provider did not say."""

    input_uncached: int | None
    input_cache_read: int | None
    input_cache_write_5m: int | None
    input_cache_write_1h: int | None
    output_text: int | None
    output_reasoning: int | None
    tool_use_prompt: int | None
    input_audio: int | None
    input_image: int | None
    output_audio: int | None
    output_image: int | None
    input_cache_read_audio: int | None
    estimated: bool = Field(description="The gateway's guess, because the answer was cut off.")
    native: JsonValue = Field(description="The provider's own usage object.")


class Attempt(BaseModel):
    """One attempt at one provider."""

    event_id: str
    request_id: str
    attempt: int
    project: str
    key_id: str
    operation: str | None
    provider: str
    requested_model: str
    sent_model: str
    answered_model: str
    started_at: Time | None
    duration_us: int
    first_event_us: int | None
    status: Status | None
    error_reason: str
    upstream_status: int | None
    finish_reason: str
    usage: AttemptUsage | None
    trace_id: str
    cost_usd: float | None = Field(description="Null where the price is unknown.")
    error_message: str
    fallback_from: str
    hedge: bool


class Attempts(BaseModel):
    """Attempts, newest first."""

    attempts: list[Attempt]
    next_page_token: str = Field(description="Set when there are more.")


class Alert(BaseModel):
    """Something wrong, once, however often it is seen."""

    id: str
    kind: AlertWord | None
    subject: str
    message: str
    opened_at: Time | None
    seen_at: Time | None
    resolved_at: Time | None


class Alerts(BaseModel):
    """Alerts, newest first."""

    alerts: list[Alert]


class Act(BaseModel):
    """One administrative act."""

    id: int
    at: Time | None
    actor: str = Field(description="The id of the admin key; `cli` for a command on the ledger's own machine.")
    action: str
    subject: str
    detail: JsonValue = Field(description="What was set; never a secret.")
    request_id: str


class Acts(BaseModel):
    """Administrative acts, newest first."""

    events: list[Act]


class Breaker(BaseModel):
    """Whether calls for one model are let through."""

    model: str
    state: BreakerWord | None
    calls: int
    failures: int
    retry_at: Time | None


class ProviderHealth(BaseModel):
    """How one provider is, by the calls made to it."""

    provider: str
    state: HealthWord | None
    in_flight: int
    max_in_flight: int | None
    queued: int
    breakers: list[Breaker]
    answered_at: Time | None
    last_error: str


class Health(BaseModel):
    """The providers, by name, as the router that answered sees them."""

    providers: list[ProviderHealth]
