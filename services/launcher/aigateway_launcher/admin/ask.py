"""Asking `/admin`: of a running gateway, or in this process in front of the ledger.

The routes are the same, so that both refuse the same mistakes in the same words. A gateway that runs beside is told by
the ledger within a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import quote

import httpx
from aigateway_common import logs
from aigateway_common.errors import GatewayError
from aigateway_common.settings import ConfigurationError, Problem

from aigateway_launcher.environment import Environment
from aigateway_launcher.groups import Group
from aigateway_launcher.http_client import TIMEOUT, fail

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from grpc import aio

    from aigateway_launcher.plan import Plan

ACTOR: Final = "cli"
"""Who acts, when the ledger itself is opened: whoever may read its files needs no key."""
EXIT_CODES: Final = {400: 2, 401: 3, 403: 3, 404: 4}
"""By HTTP status; any other failure is 1."""


@dataclass(frozen=True, slots=True)
class Where:
    """Whom to ask, and in which form to answer."""

    url: str | None = None
    admin_key: str | None = None
    config: Path | None = None
    data_dir: Path | None = None
    as_json: bool = False


def part(text: str) -> str:
    """Part of a path, whatever somebody typed."""
    return quote(text, safe=":")


def ask(where: Where, method: str, path: str, body: dict[str, Any] | None = None, **params: Any) -> Any:
    """The answer's JSON, None where it has none; a refusal ends the command with its message.

    Parameters that are None are not sent.
    """
    given = {name: value for name, value in params.items() if value is not None}
    return asyncio.run(_ask(where, method, f"/admin{path}", body, given))


async def _ask(where: Where, method: str, path: str, body: dict[str, Any] | None, params: dict[str, Any]) -> Any:
    async with _gateway(where) if where.url else _ledger(where) as client:
        response = await client.request(method, path, json=body, params=params)
    if response.is_error:
        _refuse(response, as_json=where.as_json)
    try:
        return response.json() if response.content else None
    except json.JSONDecodeError:
        fail(f"{where.url} answers something else than JSON; is it the gateway?")


@contextlib.asynccontextmanager
async def _gateway(where: Where) -> AsyncIterator[httpx.AsyncClient]:
    key = where.admin_key or (Environment(os.environ).text("ADMIN_API_KEY") or "").partition(",")[0].strip()
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with httpx.AsyncClient(base_url=where.url or "", headers=headers, timeout=TIMEOUT) as client:
        try:
            yield client
        except httpx.TransportError as error:
            fail(f"{where.url} cannot be reached ({type(error).__name__}); start the gateway with `aigateway up`")
        except httpx.InvalidURL as error:
            raise ConfigurationError([Problem("--url", str(error))]) from error


@contextlib.asynccontextmanager
async def _ledger(where: Where) -> AsyncIterator[httpx.AsyncClient]:
    logs.configure("error", json=False)
    plan = _plan(where)
    async with _services(plan) as channel:
        app = import_module("aigateway_edge.admin.surface").application(channel, actor=ACTOR)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(base_url="http://ledger", transport=transport, timeout=TIMEOUT) as client:
            yield client


def _plan(where: Where) -> Plan:
    module = import_module("aigateway_launcher.plan")
    overrides = module.Overrides(config=where.config, data_dir=where.data_dir)
    plan: Plan = module.make(overrides, os.environ, ollama_found=lambda: False)
    if not plan.usage_enabled:
        text = "is off, so that no gateway would know of it; set it to true, or name a running gateway with --url"
        raise ConfigurationError([Problem("usage.enabled", text)])
    return plan


@contextlib.asynccontextmanager
async def _services(plan: Plan) -> AsyncIterator[aio.Channel]:
    """A channel to the usage service: the one the configuration names, else one opened here."""
    if plan.targets.usage:
        certificates = import_module("aigateway_common.tls").Certificates(plan.tls) if plan.tls else None
        channel: aio.Channel = import_module("aigateway_common.serving").grpc_channel(plan.targets.usage, certificates)
        async with channel:
            yield channel
        return
    topology = import_module("aigateway_launcher.topology")
    process = topology.Process(plan, Group(usage=True))
    try:
        opened = await process.open_ledger()
    except (GatewayError, RuntimeError) as error:
        what = error.message if isinstance(error, GatewayError) else str(error)
        fail(f"the ledger cannot be opened: {what}; or name a running gateway with --url")
    try:
        yield opened
    finally:
        await process.stop(1)


def _refuse(response: httpx.Response, *, as_json: bool) -> NoReturn:
    try:
        error = response.json()["error"]
        message = error["message"]
    except (json.JSONDecodeError, KeyError, TypeError):
        error, message = None, response.reason_phrase
    if as_json and error is not None:
        print(json.dumps({"error": error}), file=sys.stderr)
    else:
        print(f"{response.status_code}: {message}", file=sys.stderr)
    sys.exit(EXIT_CODES.get(response.status_code, 1))
