"""The shape of `aigateway.yaml`: what may be written, and what each setting means."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Annotated, Any, Literal

from aigateway_common.event_stream import MAX_REPLICAS
from aigateway_common.settings import Document, Problem, suggestion
from pydantic import BaseModel, Field, ValidationError

from aigateway_launcher.config_base import MAX_WORKERS, Boolean, Seconds, Section
from aigateway_launcher.config_policies import (
    AlertsSection,
    BreakerSection,
    ConcurrencySection,
    JwtSection,
    LimitsSection,
    PoolSection,
    RetrySection,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

Port = Annotated[int, Field(ge=0, le=65535)]


class TlsSection(Section):
    """`server.tls:` This process's certificate, for all its gRPC connections; paths of files in PEM."""

    certificate: str | None = None
    key: str | None = None
    ca: str | None = None
    server_name: str | None = None
    callers: list[str] = []


class ServerSection(Section):
    """`server:` Where the gateway listens and keeps its data."""

    host: str = "127.0.0.1"
    port: Port = 8080
    grpc_host: str | None = None
    grpc_port: Port = 50051
    metrics_port: Port | None = None
    workers: Annotated[int, Field(ge=1, le=MAX_WORKERS)] = 1
    data_dir: str | None = None
    log_level: str = "info"
    reflection: Boolean = False
    batch_scheduling: Boolean = True
    drain_seconds: Seconds = 30.0
    max_connection_age: Seconds = 3600.0
    tls: TlsSection = TlsSection()


class ProviderSection(Section):
    """`providers.NAME:` One provider."""

    enabled: Boolean = True
    kind: str | None = None
    base_url: str | None = None
    api_key: str | None = None
    api_key_file: str | None = None
    connect_timeout: Seconds = 10.0
    first_byte_timeout: Seconds | None = None
    idle_timeout: Seconds = 300.0
    total_timeout: Seconds = 3600.0
    max_connections: Annotated[int, Field(gt=0)] = 1000
    headers: dict[str, str] = {}
    default_max_tokens: dict[str, Annotated[int, Field(gt=0)]] = {}
    model_options: dict[str, dict[str, Any]] = {}
    media_max_bytes: Annotated[int, Field(gt=0)] = 20 * 1024 * 1024
    media_timeout: Seconds = 10.0
    media_allow_private: Boolean = False
    pace: Annotated[float, Field(ge=0)] = 0.0


class PriceSection(Section):
    """`prices.PROVIDER/MODEL:` US dollars per million tokens."""

    input: Annotated[float, Field(ge=0)]
    output: Annotated[float, Field(ge=0)]
    cache_read: Annotated[float, Field(ge=0)] | None = None
    cache_write: Annotated[float, Field(ge=0)] | None = None
    cache_write_1h: Annotated[float, Field(ge=0)] | None = None
    reasoning: Annotated[float, Field(ge=0)] | None = None


class EdgeSection(Section):
    """`edge:` The HTTP side."""

    max_body_bytes: Annotated[int, Field(gt=0)] = 32 * 1024 * 1024
    max_buffered_bytes: Annotated[int, Field(gt=0)] = 256 * 1024 * 1024
    max_calls: Annotated[int, Field(gt=0)] = 5000
    heartbeat_seconds: Seconds = 15.0
    request_timeout: Seconds = 600.0
    max_timeout: Seconds = 3600.0
    docs: Boolean = True
    cors_origins: list[str] = []


class UsageSection(Section):
    """`usage:` The ledger."""

    enabled: Boolean = True
    database_url: str | None = None
    nats_url: str | None = None
    nats_replicas: Annotated[int, Field(ge=1, le=MAX_REPLICAS)] = 1
    outbox_max_bytes: Annotated[int, Field(gt=0)] = 1024 * 1024 * 1024
    outbox_fsync: Boolean = False
    retention_days: Annotated[int, Field(gt=0)] | None = None


class TelemetrySection(Section):
    """`telemetry:` OpenTelemetry."""

    otlp_endpoint: str | None = None
    sample_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    metrics_exporter: Literal["otlp", "none"] = "none"
    logs_exporter: Literal["otlp", "none"] = "none"
    metric_export_seconds: Seconds = 60.0


class TargetsSection(Section):
    """`targets:` Where the services are that other processes hold (`aigateway serve`)."""

    router: str | None = None
    usage: str | None = None
    providers: dict[str, str] = {}


class Config(Section):
    """The whole file."""

    server: ServerSection = ServerSection()
    keys: list[str] = []
    admin_keys: list[str] = []
    jwt: JwtSection | None = None
    limits: LimitsSection = LimitsSection()
    redis_url: str | None = None
    providers: dict[str, ProviderSection] = {}
    aliases: dict[str, str] = {}
    groq_models: list[str] = []
    fallbacks: dict[str, Annotated[list[str], Field(min_length=1, max_length=10)]] = {}
    pools: dict[str, PoolSection] = {}
    hedging: dict[str, Seconds] = {}
    retries: RetrySection = RetrySection()
    breaker: BreakerSection = BreakerSection()
    concurrency: dict[str, ConcurrencySection] = {}
    prices: dict[str, PriceSection] = {}
    edge: EdgeSection = EdgeSection()
    usage: UsageSection = UsageSection()
    alerts: AlertsSection = AlertsSection()
    telemetry: TelemetrySection = TelemetrySection()
    targets: TargetsSection = TargetsSection()


def parse(document: Document) -> tuple[Config, list[Problem]]:
    """The configuration in `document`, and everything that is wrong with it.

    What is wrong is left out, so that the rest can be looked at too and all mistakes be told at once.
    """
    data, problems = copy.deepcopy(document.data), list(document.problems)
    while True:
        try:
            return Config.model_validate(data), problems
        except ValidationError as error:
            for detail in error.errors():
                problems.append(_problem(document, detail["loc"], detail["type"], detail["msg"]))
                _leave_out(data, detail["loc"][:-1] if detail["type"] == "missing" else detail["loc"])


def _leave_out(data: Any, location: Sequence[str | int]) -> None:
    """Take the setting at `location`, or the nearest one around it, out of `data`."""
    *path, last = location
    for step, part in enumerate(path):
        inner = data.get(part) if isinstance(data, dict) else None
        if not isinstance(inner, dict):
            path, last = path[:step], part
            break
        data = inner
    if isinstance(data, dict):
        data.pop(last, None)


def _problem(document: Document, location: Sequence[str | int], kind: str, message: str) -> Problem:
    path = tuple(location)
    name = ".".join(str(part) for part in path)
    if kind == "extra_forbidden":
        known = _known(path[:-1])
        return Problem(document.where(path), f"`{name}` is not a setting{suggestion(str(path[-1]), known)}")
    if kind == "missing":
        return Problem(document.where(path), f"`{name}` is missing")
    return Problem(document.where(path), f"`{name}`: {message[0].lower()}{message[1:]}")


def _known(path: Sequence[str | int]) -> list[str]:
    """The settings that may stand at `path`."""
    section: type[BaseModel] = Config
    for part in path:
        of = section.model_fields.get(str(part))
        annotation = of.annotation if of else None
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            section = annotation
        elif annotation is not None:  # a mapping of names to sections
            inner = getattr(annotation, "__args__", (None, None))[-1]
            if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
                return []
            section = inner
    return list(section.model_fields)
