"""What `aigateway up` prints when it is ready: what is enabled, what is not and why, and the first call to try."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aigateway_providers.registry import PROVIDERS
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from aigateway_launcher.groups import Addresses
    from aigateway_launcher.plan import Plan

_TRY: Final = {
    "openai": "openai/gpt-4o-mini",
    "anthropic": "anthropic/claude-haiku-4-5",
    "gemini": "gemini/gemini-2.5-flash",
    "groq": "groq/llama-3.3-70b-versatile",
    "sandbox": "sandbox/echo",
}
"""A model to try first, by kind of provider."""


def show(plan: Plan, addresses: Addresses, *, split: bool) -> None:
    """Print the banner on standard error, where logs go too."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    how = "a process per service" if split else f"{plan.workers} workers" if plan.workers > 1 else "one process"
    console.print(f"\n[bold]AI gateway[/bold] is ready ({how})")
    console.print(f"  HTTP   http://{addresses.http}/v1   (docs: http://{addresses.http}/docs)")
    console.print(f"  gRPC   {addresses.grpc.get('router', '-')}")
    for services, address in addresses.metrics.items():
        of = f"   ({services})" if len(addresses.metrics) > 1 else ""
        console.print(f"  Prometheus  http://{address}/metrics{of}")
    console.print(f"  Ledger {_ledger(plan) if plan.usage_enabled else 'off'}")
    console.print(f"  Keys   {keys(plan)}\n")
    console.print(providers_table(plan))
    console.print(f"\nTry it:\n{curl(plan, addresses)}\n", soft_wrap=True)


def keys(plan: Plan) -> str:
    """What callers must send; keys that are made in the ledger are known to the usage service alone."""
    router = plan.router
    if router.api_keys or router.jwt:
        return "callers must send a key" + (", or a token of the identity provider" if router.jwt else "")
    if router.admin_keys:
        return "callers must send a key; make one: aigateway keys create --project default"
    return "no key is asked for until one is made (loopback only)"


def _ledger(plan: Plan) -> str:
    """Where the ledger is, without user and password."""
    scheme, _, rest = plan.usage.database_url.partition("://")
    return rest.removeprefix("/") if scheme.startswith("sqlite") else f"{scheme}://{rest.rpartition('@')[2]}"


def providers_table(plan: Plan) -> Table:
    """Every provider, whether it is enabled, and why."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 2))
    table.add_column("provider")
    table.add_column("state")
    table.add_column("why")
    for name in plan.providers:
        table.add_row(name, "[green]enabled[/green]", plan.sources.get(name, ""))
    for name, target in plan.targets.providers.items():
        table.add_row(name, "[green]elsewhere[/green]", target)
    for name, hint in plan.disabled.items():
        table.add_row(name, "[dim]off[/dim]", f"[dim]{hint}[/dim]")
    return table


def _closed(plan: Plan) -> bool:
    return bool(plan.router.api_keys or plan.router.admin_keys or plan.router.jwt)


def curl(plan: Plan, addresses: Addresses) -> str:
    """The first call, ready to paste."""
    name, settings = next(iter(plan.providers.items()))
    known = _TRY.get(settings.kind)
    model = known.replace(PROVIDERS[settings.kind].kind, name, 1) if known else f"{name}/MODEL"
    key = " \\\n    -H 'authorization: Bearer YOUR_GATEWAY_KEY'" if _closed(plan) else ""
    body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'
    call = f"curl http://{addresses.http}/v1/chat/completions -H 'content-type: application/json'"
    return f"  {call}{key} \\\n    -d '{body}'"
