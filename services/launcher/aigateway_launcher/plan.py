"""What will run: file over environment over defaults, resolved into one settings object per service.

Every mistake is collected, so that all are reported at once. Nothing is opened or started here.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aigateway_common.settings import ConfigurationError, Document, Problem, load, suggestion
from aigateway_edge.settings import EdgeSettings
from aigateway_providers.registry import PROVIDERS, ProviderRow
from aigateway_providers.settings import ProviderSettings
from aigateway_router.settings import RouterSettings
from aigateway_usage.settings import PriceOverride, UsageSettings

from aigateway_launcher import config as shape
from aigateway_launcher import environment as env
from aigateway_launcher.config_base import MAX_WORKERS, boolean
from aigateway_launcher.plan_alerts import AlertsMaker
from aigateway_launcher.plan_events import EventsMaker
from aigateway_launcher.plan_policies import PolicyMaker
from aigateway_launcher.plan_telemetry import TelemetryMaker
from aigateway_launcher.plan_tls import TlsMaker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aigateway_common.event_stream import EventStream
    from aigateway_common.tls import Tls

    from aigateway_launcher.config import Config, ProviderSection
    from aigateway_launcher.held_files import HeldFiles
    from aigateway_launcher.plan_telemetry import TelemetrySettings

DEFAULT_FILE: Final = "aigateway.yaml"
MIN_KEY_LENGTH: Final = 16
KEY_HINT: Final = "make one with: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the command line says; it wins over file and environment."""

    config: Path | None = None
    host: str | None = None
    port: int | None = None
    grpc_port: int | None = None
    data_dir: Path | None = None
    metrics_port: int | None = None
    workers: int | None = None


@dataclass(frozen=True, slots=True)
class Targets:
    """Where services are that other processes hold."""

    router: str | None = None
    usage: str | None = None
    providers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a process needs to know; services get their own part of it."""

    host: str
    port: int
    grpc_host: str
    grpc_port: int
    metrics_port: int | None
    workers: int
    """Processes among which `up` divides the calls."""
    data_dir: Path
    log_level: str
    reflection: bool
    batch_scheduling: bool
    drain_seconds: float
    max_connection_age: float
    tls: Tls | None
    """Where the certificates of its gRPC connections are; None is plaintext."""
    telemetry: TelemetrySettings
    usage_enabled: bool
    providers: Mapping[str, ProviderSettings]
    disabled: Mapping[str, str]
    """Providers that are not enabled, and what would enable them."""
    sources: Mapping[str, str]
    """What enabled each provider."""
    router: RouterSettings
    usage: UsageSettings
    edge: EdgeSettings
    targets: Targets
    config_file: Path | None = None


def make(
    overrides: Overrides,
    environment: Mapping[str, str],
    *,
    ollama_found: Callable[[], bool],
    files: HeldFiles | None = None,
) -> Plan:
    """The plan for this command line, environment and file.

    Args:
        overrides: The command line.
        environment: The process's environment.
        ollama_found: Asked when nothing configures Ollama: does one answer at its default address?
        files: What the files that hold keys held before; those that are read now are added.

    Raises:
        ConfigurationError: With every mistake found.
    """
    settings = env.read(environment, files)
    path = file_of(overrides.config, settings)
    document = load(path, environment) if path else Document(DEFAULT_FILE)
    config, problems = shape.parse(document)
    maker = _Maker(config, document, settings, overrides)
    plan = maker.plan(path, ollama_found)
    problems = [*problems, *maker.problems, *settings.problems]
    if problems:
        raise ConfigurationError(dict.fromkeys(problems))
    return plan


def file_of(given: Path | None, settings: env.Environment) -> Path | None:
    """The configuration file: the one `given` on the command line, else the environment's, else what is here."""
    if given:
        return given
    if named := settings.text("AIGATEWAY_CONFIG"):
        return Path(named)
    return Path(DEFAULT_FILE) if Path(DEFAULT_FILE).is_file() else None


class _Maker:
    """Resolves one configuration; `problems` fills while it works."""

    def __init__(self, config: Config, document: Document, settings: env.Environment, overrides: Overrides) -> None:
        self.problems: list[Problem] = []
        self._config = config
        self._document = document
        self._env = settings
        self._overrides = overrides
        self._sources: dict[str, str] = {}
        self._disabled: dict[str, str] = {}

    def plan(self, path: Path | None, ollama_found: Callable[[], bool]) -> Plan:
        server, over, env_ = self._config.server, self._overrides, self._env
        host = over.host or self._given("host") or env_.text("HOST") or server.host
        keys, admin_keys = self._keys(host)
        targets = self._targets()
        providers = self._providers(ollama_found, targets)
        data_dir = self._data_dir()
        events = self._events()
        metrics_port = over.metrics_port if over.metrics_port is not None else server.metrics_port
        return Plan(
            host=host,
            port=self._port(over.port, "port", "PORT", server.port),
            grpc_host=self._given("grpc_host") or env_.text("AIGATEWAY_GRPC_HOST") or "127.0.0.1",
            grpc_port=self._port(over.grpc_port, "grpc_port", "AIGATEWAY_GRPC_PORT", server.grpc_port),
            metrics_port=metrics_port if metrics_port is not None else env_.integer("AIGATEWAY_METRICS_PORT"),
            workers=self._workers(),
            data_dir=data_dir,
            log_level=self._log_level(),
            reflection=server.reflection,
            batch_scheduling=server.batch_scheduling,
            drain_seconds=server.drain_seconds,
            max_connection_age=server.max_connection_age,
            tls=self._tls(),
            telemetry=self._telemetry(),
            usage_enabled=self._config.usage.enabled,
            providers=providers,
            disabled=self._disabled,
            sources=self._sources,
            router=replace(self._router(keys, admin_keys, data_dir, {*providers, *targets.providers}), events=events),
            usage=replace(self._usage(data_dir, providers), events=events),
            edge=self._edge(),
            targets=targets,
            config_file=path,
        )

    # Server.

    def _given(self, name: str) -> str | None:
        """A setting of `server` that the file itself has."""
        server = self._config.server
        return getattr(server, name) if name in server.model_fields_set else None

    def _port(self, override: int | None, name: str, variable: str, default: int) -> int:
        if override is not None:
            return override
        if name in self._config.server.model_fields_set:
            return default
        value = self._env.integer(variable)
        if value is not None and not 0 <= value <= 65535:
            self.problems.append(Problem(variable, f"must be a port from 0 to 65535, not {value}"))
            return default
        return default if value is None else value

    def _workers(self) -> int:
        value, where = self._overrides.workers, "--workers"
        if value is None and "workers" in self._config.server.model_fields_set:
            return self._config.server.workers
        if value is None:
            value, where = self._env.integer("AIGATEWAY_WORKERS"), "AIGATEWAY_WORKERS"
        if value is not None and not 1 <= value <= MAX_WORKERS:
            self.problems.append(Problem(where, f"must be from 1 to {MAX_WORKERS}, not {value}"))
            return 1
        return value or 1

    def _data_dir(self) -> Path:
        named = self._config.server.data_dir or self._env.text("AIGATEWAY_DATA_DIR")
        chosen = self._overrides.data_dir or (Path(named) if named else Path("data"))
        return chosen.expanduser().absolute()

    def _log_level(self) -> str:
        given = self._given("log_level")
        level = (given or self._env.text("LOG_LEVEL") or self._config.server.log_level).lower()
        if level not in {"debug", "info", "warning", "error"}:
            where = self._document.where(("server", "log_level")) if given else "LOG_LEVEL"
            self.problems.append(Problem(where, f"must be debug, info, warning or error, not `{level}`"))
            return "info"
        return level

    def _tls(self) -> Tls | None:
        maker = TlsMaker(self._config.server.tls, self._document, self._env)
        result = maker.tls()
        self.problems += maker.problems
        return result

    def _telemetry(self) -> TelemetrySettings:
        maker = TelemetryMaker(self._config.telemetry, self._document, self._env)
        result = maker.telemetry()
        self.problems += maker.problems
        return result

    # Keys.

    def _keys(self, host: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The keys of callers, and those of operators."""
        keys = self._found("keys", "GATEWAY_API_KEY")
        admin = self._found("admin_keys", "ADMIN_API_KEY")
        if both := keys.keys() & admin.keys():
            where = admin[both.pop()]
            self.problems.append(Problem(where, "an operator's key may not be a caller's key too"))
        if not (keys or admin or self._config.jwt or is_loopback(host)):
            self.problems.append(
                Problem("GATEWAY_API_KEY", f"is not set, so only loopback may be served, not `{host}`; {KEY_HINT}")
            )
        return tuple(keys), tuple(admin)

    def _found(self, section: str, variable: str) -> dict[str, str]:
        """The keys of a section and a variable, each with where it stands."""
        found: dict[str, str] = {}
        for index, key in enumerate(getattr(self._config, section)):
            where = self._document.where((section, index))
            if (section, index) not in self._document.variables:
                self.problems.append(Problem(where, f"a key may not stand in the file; write `${{{variable}}}`"))
            found |= {part.strip(): where for part in key.split(",") if part.strip()}
        given = self._env.text(variable) or ""
        found |= {part.strip(): variable for part in given.split(",") if part.strip()}
        for key, where in found.items():
            if len(key) < MIN_KEY_LENGTH or len(set(key)) < MIN_KEY_LENGTH // 2:
                text = f"a key of {MIN_KEY_LENGTH} or more varied characters is needed; {KEY_HINT}"
                self.problems.append(Problem(where, text))
        return found

    # Providers.

    def _providers(self, ollama_found: Callable[[], bool], targets: Targets) -> dict[str, ProviderSettings]:
        result: dict[str, ProviderSettings] = {}
        for name in [*PROVIDERS, *(name for name in self._config.providers if name not in PROVIDERS)]:
            section = self._config.providers.get(name)
            row = self._row(name, section)
            if name in targets.providers:  # another process holds it, and its key
                continue
            if row is not None and self._enabled(name, section, row, ollama_found):
                result[name] = self._provider(name, section, row)
        wanted = boolean_word(self._env.text("AIGATEWAY_SANDBOX"))
        if wanted or not (result or targets.providers or self.problems):
            result.setdefault("sandbox", ProviderSettings(name="sandbox", kind="sandbox", base_url=""))
            self._sources.setdefault("sandbox", "AIGATEWAY_SANDBOX" if wanted else "no other provider is enabled")
        return result

    def _row(self, name: str, section: ProviderSection | None) -> ProviderRow | None:
        kind = (section and section.kind) or name
        if kind not in PROVIDERS:
            where = self._document.where(("providers", name))
            known = ", ".join(PROVIDERS)
            hint = suggestion(kind, PROVIDERS) or f"; name its `kind`, one of {known}"
            self.problems.append(Problem(where, f"`{kind}` is not a kind of provider{hint}"))
            return None
        return PROVIDERS[kind]

    def _enabled(
        self, name: str, section: ProviderSection | None, row: ProviderRow, ollama_found: Callable[[], bool]
    ) -> bool:
        if section is not None:
            if not section.enabled:
                self._disabled[name] = f"set `providers.{name}.enabled: true`"
                return False
            self._sources[name] = self._document.where(("providers", name))
            return True
        if name == "sandbox":
            return False
        if variable := self._env.name_of(*row.key_env) or (None if row.key_env else self._env.name_of(*row.url_env)):
            self._sources[name] = variable
            return True
        if name == "ollama" and ollama_found():
            self._sources[name] = f"it answers at {row.base_url}"
            return True
        self._disabled[name] = f"set {' or '.join(row.key_env or row.url_env)}"
        return False

    def _provider(self, name: str, section: ProviderSection | None, row: ProviderRow) -> ProviderSettings:
        section = section or shape.ProviderSection()
        of_row = name == row.kind
        base_url = section.base_url or (self._env.text(*row.url_env) if of_row else None) or row.base_url
        if base_url and not base_url.startswith(("http://", "https://")):
            where = self._document.where(("providers", name, "base_url")) if section.base_url else row.url_env[0]
            self.problems.append(Problem(where, f"must begin with http:// or https://, not `{base_url}`"))
        return ProviderSettings(
            name=name,
            kind=row.kind,
            base_url=base_url,
            api_key=self._api_key(name, section, row, of_row=of_row),
            connect_timeout=section.connect_timeout,
            first_byte_timeout=section.first_byte_timeout or row.first_byte_timeout,
            idle_timeout=section.idle_timeout,
            total_timeout=section.total_timeout,
            max_connections=section.max_connections,
            headers=section.headers,
            default_max_tokens=section.default_max_tokens,
            model_options=section.model_options,
            media_max_bytes=section.media_max_bytes,
            media_timeout=section.media_timeout,
            media_allow_private=section.media_allow_private,
            pace=section.pace,
        )

    def _api_key(self, name: str, section: ProviderSection, row: ProviderRow, *, of_row: bool) -> str:
        where = self._document.where(("providers", name, "api_key"))
        if section.api_key and ("providers", name, "api_key") not in self._document.variables:
            variable = row.key_env[0] if row.key_env else f"{name.upper()}_API_KEY"
            self.problems.append(Problem(where, f"a key may not stand in the file; write `${{{variable}}}`"))
        if section.api_key:
            return section.api_key
        if section.api_key_file:
            try:
                return self._env.files.read(section.api_key_file)
            except OSError as error:
                place = self._document.where(("providers", name, "api_key_file"))
                self.problems.append(Problem(place, f"`{section.api_key_file}` cannot be read: {error.strerror}"))
                return ""
        key = (self._env.text(*row.key_env) if of_row else None) or ""
        if row.key_env and not key:
            place = self._document.where(("providers", name))
            self.problems.append(Problem(place, f"`{name}` needs a key: set {' or '.join(row.key_env)}"))
        return key

    # One settings object per service.

    def _router(
        self, keys: tuple[str, ...], admin_keys: tuple[str, ...], data_dir: Path, enabled: set[str]
    ) -> RouterSettings:
        maker = PolicyMaker(self._config, self._document, self._env)
        policies = maker.router(enabled, {*enabled, *self._disabled})
        self.problems += maker.problems
        known = {*enabled, *self._disabled, *self._config.pools}
        for alias, target in self._config.aliases.items():
            provider, slash, model = target.partition("/")
            where = self._document.where(("aliases", alias))
            if target in self._config.aliases:
                continue
            if not slash or not model:
                self.problems.append(
                    Problem(where, f"`{alias}` must name `provider/model` or another alias, not `{target}`")
                )
            elif provider not in known:
                hint = suggestion(provider, known)
                self.problems.append(Problem(where, f"`{alias}`: `{provider}` is not a provider{hint}"))
        return RouterSettings(
            **policies,
            api_keys=keys,
            admin_keys=admin_keys,
            aliases=self._config.aliases,
            disabled=self._disabled,
            groq_models=tuple(self._config.groq_models),
            outbox_dir=data_dir / "outbox",
            outbox_max_bytes=self._config.usage.outbox_max_bytes,
            outbox_fsync=self._config.usage.outbox_fsync,
            default_timeout=self._config.edge.request_timeout,
        )

    def _usage(self, data_dir: Path, providers: Mapping[str, ProviderSettings]) -> UsageSettings:
        url = self._config.usage.database_url or self._env.text("DATABASE_URL")
        free = {name for name, settings in providers.items() if settings.kind in {"ollama", "sandbox"}}
        maker = AlertsMaker(self._config.alerts, self._document)
        alerts = maker.alerts()
        self.problems += maker.problems
        return UsageSettings(
            database_url=url or f"sqlite+aiosqlite:///{data_dir / 'ledger.db'}",
            price_overrides={
                pattern: PriceOverride(**price.model_dump()) for pattern, price in self._config.prices.items()
            },
            free_providers=frozenset({"ollama", "sandbox", *free}),
            retention_days=self._config.usage.retention_days,
            alerts=alerts,
        )

    def _events(self) -> EventStream | None:
        maker = EventsMaker(self._config.usage, self._document, self._env)
        result = maker.stream()
        self.problems += maker.problems
        return result

    def _edge(self) -> EdgeSettings:
        edge = self._config.edge
        return EdgeSettings(
            max_body_bytes=edge.max_body_bytes,
            max_buffered_bytes=edge.max_buffered_bytes,
            max_calls=edge.max_calls,
            heartbeat_seconds=edge.heartbeat_seconds,
            default_timeout=edge.request_timeout,
            max_timeout=edge.max_timeout,
            docs=edge.docs,
            cors_origins=tuple(edge.cors_origins),
        )

    def _targets(self) -> Targets:
        targets, env_ = self._config.targets, self._env
        providers = dict(targets.providers)
        for pair in _pairs(env_.text("AIGATEWAY_PROVIDER_TARGETS") or ""):
            name, equals, target = pair.partition("=")
            if equals and target:
                providers.setdefault(name.strip(), target.strip())
            else:
                self.problems.append(Problem("AIGATEWAY_PROVIDER_TARGETS", f"`{pair}` is not name=host:port"))
        return Targets(
            targets.router or env_.text("AIGATEWAY_ROUTER_TARGET"),
            targets.usage or env_.text("AIGATEWAY_USAGE_TARGET"),
            providers,
        )


def _pairs(text: str) -> list[str]:
    """`name=target` pairs; a target may be several addresses (`openai=ipv4:10.0.0.1:50061,10.0.0.2:50061`)."""
    result: list[str] = []
    for piece in filter(None, (piece.strip() for piece in text.split(","))):
        if "=" not in piece and result and "=ipv" in result[-1]:
            result[-1] += f",{piece}"
        else:
            result.append(piece)
    return result


def boolean_word(text: str | None) -> bool:
    """Whether a variable says yes."""
    return boolean(text or "no") is True


def is_loopback(host: str) -> bool:
    """Whether `host` is reached from this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
