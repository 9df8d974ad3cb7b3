"""`aigateway usage`: what was called and what it cost, from the ledger here or a usage service elsewhere."""

from __future__ import annotations

import asyncio
import json
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import grpc
from aigateway.v1 import usage_service_pb2 as pb
from aigateway.v1.usage_service_pb2_grpc import UsageServiceStub
from aigateway_common.errors import from_rpc_error
from aigateway_common.settings import ConfigurationError, Problem, suggestion
from rich.console import Console
from rich.table import Table

from aigateway_launcher.certificates import of_command
from aigateway_launcher.groups import Group
from aigateway_launcher.http_client import fail
from aigateway_launcher.plan import make
from aigateway_launcher.topology import Process

if TYPE_CHECKING:
    from aigateway_launcher.plan import Overrides

KEYS: Final = {
    "model": pb.SUMMARY_KEY_MODEL,
    "provider": pb.SUMMARY_KEY_PROVIDER,
    "project": pb.SUMMARY_KEY_PROJECT,
    "status": pb.SUMMARY_KEY_STATUS,
    "day": pb.SUMMARY_KEY_DAY,
}


def run(
    overrides: Overrides, *, by: str, days: float | None, last: int | None, target: str | None, as_json: bool
) -> None:
    """Print sums, or the last calls, as a table or JSON."""
    keys = [key.strip() for key in by.split(",") if key.strip()]
    unknown = [Problem("--by", f"`{key}` is not a key{suggestion(key, KEYS)}") for key in keys if key not in KEYS]
    if unknown:
        raise ConfigurationError(unknown)
    filter_ = pb.AttemptFilter()
    if days is not None:
        filter_.from_us = int((time.time() - days * 86400) * 1e6)
    rows = asyncio.run(_rows(overrides, target, filter_, keys, last))
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        Console(highlight=False).print(_table(rows) if rows else "The ledger is empty.")


async def _rows(
    overrides: Overrides, target: str | None, filter_: pb.AttemptFilter, keys: list[str], last: int | None
) -> list[dict[str, Any]]:
    if target is not None:
        from aigateway_common.serving import grpc_channel  # noqa: PLC0415 - only for a service elsewhere

        async with grpc_channel(target, of_command(overrides.config, os.environ)) as channel:
            return await _asked(UsageServiceStub(channel), filter_, keys, last)
    plan = make(overrides, os.environ, ollama_found=lambda: False)
    process = Process(plan, Group(usage=True))
    channel = await process.open_ledger()
    try:
        return await _asked(UsageServiceStub(channel), filter_, keys, last)
    finally:
        await process.stop(1)


async def _asked(stub: Any, filter_: pb.AttemptFilter, keys: list[str], last: int | None) -> list[dict[str, Any]]:
    try:
        if last is not None:
            listing = await stub.ListAttempts(pb.ListAttemptsRequest(filter=filter_, page_size=last), timeout=60)
            return [_attempt(attempt) for attempt in listing.attempts]
        request = pb.SummarizeAttemptsRequest(filter=filter_, group_by=[KEYS[key] for key in keys])
        summary = await stub.SummarizeAttempts(request, timeout=60)
        return [_summary(keys, row) for row in summary.rows]
    except grpc.aio.AioRpcError as error:
        fail(from_rpc_error(error).message)


def _summary(keys: list[str], row: pb.SummaryRow) -> dict[str, Any]:
    return dict(zip(keys, row.keys, strict=True)) | {
        "calls": row.attempts,
        "errors": row.errors,
        "cancelled": row.cancelled,
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens,
        "cost_usd": round(row.cost_usd, 6),
        "unpriced": row.unpriced,
        "mean_ms": round(row.mean_duration_us / 1000, 1),
    }


def _attempt(attempt: pb.Attempt) -> dict[str, Any]:
    usage = attempt.usage
    prompt = usage.input_uncached + usage.input_cache_read + usage.input_cache_write_5m + usage.input_cache_write_1h
    return {
        "started": datetime.fromtimestamp(attempt.started_at_us / 1e6, UTC).isoformat(timespec="seconds"),
        "model": f"{attempt.provider}/{attempt.sent_model}",
        "status": pb.AttemptStatus.Name(attempt.status).removeprefix("ATTEMPT_STATUS_").lower(),
        "error": attempt.error_reason,
        "input_tokens": prompt + usage.tool_use_prompt if attempt.HasField("usage") else None,
        "output_tokens": usage.output_text + usage.output_reasoning if attempt.HasField("usage") else None,
        "cost_usd": attempt.cost_usd if attempt.HasField("cost_usd") else None,
        "ms": round(attempt.duration_us / 1000, 1),
        "request_id": attempt.request_id,
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name, value in rows[0].items():
        table.add_column(name.replace("_", " "), justify="right" if isinstance(value, int | float) else "left")
    for row in rows:
        table.add_row(*("?" if value is None else _cell(value) for value in row.values()))
    return table


def _cell(value: object) -> str:
    if isinstance(value, bool | str):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
