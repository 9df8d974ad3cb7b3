"""The environment variables that the gateway honours, by the names users already have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aigateway_common.settings import Problem, suggestion
from aigateway_providers.registry import PROVIDERS

from aigateway_launcher.held_files import HeldFiles

if TYPE_CHECKING:
    from collections.abc import Mapping

OWN: Final = {
    "AIGATEWAY_CONFIG": "path of the configuration file",
    "AIGATEWAY_DATA_DIR": "folder of the ledger and the outbox",
    "AIGATEWAY_GRPC_HOST": "address of the gRPC ports",
    "AIGATEWAY_GRPC_PORT": "port of the router (or of the service that `serve` runs)",
    "AIGATEWAY_METRICS_PORT": "port of the Prometheus metrics",
    "AIGATEWAY_WORKERS": "processes among which `up` divides the calls, 1 to 64",
    "AIGATEWAY_TLS_CERT": "file of the certificate for gRPC between services; then all of it is mutual TLS",
    "AIGATEWAY_TLS_KEY": "file of that certificate's private key",
    "AIGATEWAY_TLS_CA": "file of the authorities that sign the certificates of the other services",
    "AIGATEWAY_TLS_SERVER_NAME": "name that the other services' certificates carry, where targets are addresses",
    "AIGATEWAY_TLS_CALLERS": "names in the certificates of those whose gRPC calls are taken; of all of the CA without",
    "AIGATEWAY_SANDBOX": "1 enables the sandbox beside other providers",
    "AIGATEWAY_URL": "where `chat`, `models` and the operators' commands find a running gateway",
    "AIGATEWAY_ROUTER_TARGET": "where the router is, for an edge alone",
    "AIGATEWAY_USAGE_TARGET": "where the usage service is, for a router alone",
    "AIGATEWAY_PROVIDER_TARGETS": (
        "where the adapters are: name=host:port, separated by commas; replicas as name=ipv4:host:port,host:port"
    ),
}
"""Variables of our own; any other `AIGATEWAY_…` is a mistake. Tests may set AIGATEWAY_FIXTURES."""

KNOWN: Final = {
    "HOST": "address of the HTTP port",
    "PORT": "HTTP port",
    "LOG_LEVEL": "debug, info, warning or error",
    "GATEWAY_API_KEY": "keys that callers must send, separated by commas",
    "ADMIN_API_KEY": "keys of operators, for the administrative services, separated by commas",
    "DATABASE_URL": "the ledger's database",
    "REDIS_URL": "where limits are counted when several routers share them",
    "NATS_URL": "where usage events wait for the ledger, in NATS JetStream; they go by gRPC without",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "where traces go (OTLP gRPC), and metrics and logs that are exported",
    "OTEL_TRACES_SAMPLER_ARG": "share of calls that are traced, 0 to 1",
    "OTEL_METRICS_EXPORTER": "`otlp` exports metrics as well; `none` is the default",
    "OTEL_LOGS_EXPORTER": "`otlp` exports log lines as well; `none` is the default",
    "OTEL_METRIC_EXPORT_INTERVAL": "milliseconds between two exports of metrics; 60000 is the default",
}


@dataclass(frozen=True, slots=True)
class Environment:
    """What the environment says, and what is wrong with it."""

    values: Mapping[str, str]
    problems: list[Problem] = field(default_factory=list)
    files: HeldFiles = field(default_factory=HeldFiles)

    def text(self, *names: str) -> str | None:
        """The first of `names` that is set and not empty; `NAME_FILE` names a file that holds the value."""
        for name in names:
            if value := self.values.get(name, "").strip():
                return value
            if path := self.values.get(f"{name}_FILE", "").strip():
                return self._file(f"{name}_FILE", path)
        return None

    def name_of(self, *names: str) -> str | None:
        """Which of `names` `text` would take."""
        return next((name for name in names if self.text(name)), None)

    def number(self, name: str) -> float | None:
        """The number in `name`."""
        value = self.text(name)
        if value is None:
            return None
        try:
            return float(value)
        except ValueError:
            self.problems.append(Problem(name, f"must be a number, not `{value}`"))
            return None

    def integer(self, name: str) -> int | None:
        """The whole number in `name`."""
        number = self.number(name)
        return None if number is None else int(number)

    def _file(self, name: str, path: str) -> str | None:
        try:
            return self.files.read(path) or None
        except OSError as error:
            self.problems.append(Problem(name, f"`{path}` cannot be read: {error.strerror}"))
            return None


def read(values: Mapping[str, str], files: HeldFiles | None = None) -> Environment:
    """The environment `values`, checked for misspelt variables of ours; `files` holds what was read before."""
    problems = [
        Problem(name, f"is not a setting{suggestion(name, OWN)}")
        for name in values
        if name.startswith("AIGATEWAY_") and name not in OWN and name != "AIGATEWAY_FIXTURES"
    ]
    return Environment(values, problems, files or HeldFiles())


def described() -> dict[str, str]:
    """Every variable and what it is for."""
    variables = dict(KNOWN) | OWN
    for row in PROVIDERS.values():
        for name in row.key_env:
            variables[name] = f"key of {row.title}; enables it"
        for name in row.url_env:
            variables[name] = f"address of {row.title}" + ("" if row.key_env else "; enables it")
    return variables
