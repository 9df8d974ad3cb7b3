"""Logs: one line per event, JSON for machines or colours for a terminal, on standard error.

Every line carries the `request_id`, `trace_id` and `span_id` bound to the task it comes from. Prompts and keys never
appear: fields that hold them by name are dropped, and what looks like a key is masked wherever it stands, in our own
lines and in those of libraries alike. Bind ids with `bind`; say what happened as a constant event name with fields, not
as prose. `forward` gives the same lines to someone else as well; see `otlp_logs`.
"""

from __future__ import annotations

import logging
import re
import sys
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, cast

import orjson
import structlog
from structlog.contextvars import bind_contextvars, merge_contextvars, unbind_contextvars

from aigateway_common.seldom import Seldom

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping

    from structlog.typing import EventDict, FilteringBoundLogger, Processor

    Sink = Callable[[Mapping[str, Any]], None]

DROPPED: Final = frozenset(
    {
        "api_key",
        "apikey",
        "api-key",
        "authorization",
        "arguments",
        "body",
        "completion",
        "content",
        "input",
        "messages",
        "password",
        "prompt",
        "proxy-authorization",
        "request",
        "response",
        "secret",
        "x-api-key",
        "x-goog-api-key",
    }
)
"""Fields left out of every line, at any depth: they hold what callers write, or keys."""

MASK: Final = "***"
_KEYS: Final = re.compile(
    r"""(?ix)
    (?P<lead> \b bearer \s+ | [?&] (?:key|api_key|access_token) = | :// [^/\s:@]* : (?= [^/\s@]+ @) )
    [^\s&@"',;]+
    | \b (?: sk | pk | rk | gsk | xai | agw | ghp ) [-_] [a-z0-9_-]{12,}
    | \b AIza [0-9a-z_-]{30,}
    | \b eyJ [a-z0-9_-]{10,} \. [a-z0-9_-]+ \. [a-z0-9_-]*
    """
)
_plain_lines: bool = False
"""`call` may write its line by itself: lines are JSON, and such lines are wanted."""
_sink: Sink | None = None
"""Gets every line beside standard error."""
_SHORT: Final = 100
"""Characters of a name that is remembered once it was looked through for keys."""
_DEPTH: Final = 6
"""How deep values are looked into; what lies deeper is left out."""


def configure(level: str, *, json: bool) -> None:
    """Set up logging for the process. `level` is a name such as `info`; raises ValueError that says which exist."""
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"`{level}` is no log level; choose debug, info, warning, error or critical")
    shared: list[Processor] = [
        merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    last = _renderers(json=json)
    global _plain_lines  # noqa: PLW0603 -- logging is set up once for the process
    _plain_lines = json and number <= logging.INFO
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    _route_libraries(number, [*shared, _source], last)


def get(name: str) -> FilteringBoundLogger:
    """The logger of one module or service; its lines carry `name` as `source`."""
    return cast("FilteringBoundLogger", structlog.get_logger(source=name))


def call(log: FilteringBoundLogger, source: str, request_id: str, fields: dict[str, str | int | float]) -> None:
    """Write the one line that every call leaves: the same as `log.info("call", ...)`, at a fifth of the cost.

    Args:
        log: What writes it in any other shape than JSON; its `source` is `source`.
        source: As given to `get`.
        request_id: The id of the call.
        fields: The rest, none of them named in `DROPPED`: names, numbers, never free text of any length.
    """
    if not _plain_lines:
        log.info("call", request_id=request_id, **fields)
        return
    line: dict[str, str | int | float | datetime] = {"source": source, "request_id": _masked_id(request_id)}
    for key, value in fields.items():
        line[key] = value if type(value) is not str else _masked(value) if len(value) < _SHORT else mask_text(value)
    line["event"] = "call"
    line["level"] = "info"
    line["time"] = datetime.now(UTC)
    sys.stderr.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z).decode())
    sys.stderr.flush()
    if _sink is not None:
        _sink(line)


def forward(sink: Sink | None) -> None:
    """From now on give each line to `sink` as well, as a mapping in which nothing is left to mask; None ends it.

    `sink` is called where the line is logged, in any thread, and raises nothing.
    """
    global _sink  # noqa: PLW0603 -- logging is set up once for the process
    _sink = sink


def bind(*, request_id: str, trace_id: str = "", span_id: str = "") -> None:
    """Put the ids of a call on every later line of this task and of the tasks it starts."""
    if trace_id and span_id:
        bind_contextvars(request_id=request_id, trace_id=trace_id, span_id=span_id)
    elif trace_id:
        bind_contextvars(request_id=request_id, trace_id=trace_id)
    else:
        bind_contextvars(request_id=request_id)


def unbind() -> None:
    """Take the ids off again."""
    unbind_contextvars("request_id", "trace_id", "span_id")


def mask(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Processor: leave out fields that hold prompts or keys, and mask what looks like a key anywhere else."""
    return cast("EventDict", _clean(event, _DEPTH))


def mask_text(text: str) -> str:
    """`text` with everything that looks like a key masked."""
    return _KEYS.sub(lambda match: (match["lead"] or "") + MASK, text)


@lru_cache(512)
def _masked(text: str) -> str:
    """`mask_text` of the few words that come again and again: providers, models, outcomes."""
    return mask_text(text)


def _masked_id(request_id: str) -> str:
    """`mask_text` of the id of a call; one of ours has neither the marks nor the beginnings of a key."""
    return request_id if request_id[:4] == "req_" and request_id[4:].isalnum() else mask_text(request_id)


def _source(_logger: Any, _method: str, event: EventDict) -> EventDict:
    event["source"] = event["_record"].name
    return event


def _clean(value: object, depth: int) -> object:
    match value:
        case str():
            return mask_text(value)
        case bool() | int() | float() | None:
            return value
        case dict() if depth:
            return {key: _clean(item, depth - 1) for key, item in value.items() if str(key).lower() not in DROPPED}
        case list() | tuple() | set() | frozenset() if depth:
            return [_clean(item, depth - 1) for item in value]
        case bytes() | bytearray() | memoryview():
            return f"<{len(value)} bytes>"
        case dict() | list() | tuple() | set() | frozenset():
            return "..."
        case _:
            return mask_text(str(value))


def _renderers(*, json: bool) -> list[Processor]:
    if json:
        last: Processor = structlog.processors.JSONRenderer(serializer=_dumps)
    else:
        last = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), timestamp_key="time")
    return [structlog.processors.format_exc_info, mask, _forwarded, last]


def _forwarded(_logger: Any, _method: str, event: EventDict) -> EventDict:
    if _sink is not None:
        _sink(event)
    return event


def _dumps(event: MutableMapping[str, Any], **_: Callable[[Any], Any]) -> str:
    return orjson.dumps(event, option=orjson.OPT_NON_STR_KEYS).decode()


def _route_libraries(level: int, shared: list[Processor], last: list[Processor]) -> None:
    """Send what libraries log (grpc, uvicorn, SQLAlchemy) down the same path; below warning only when debugging."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Seldom())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level if level <= logging.DEBUG else max(level, logging.WARNING))
