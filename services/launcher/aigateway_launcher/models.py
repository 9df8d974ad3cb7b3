"""`aigateway models`: the models of a running gateway."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.table import Table

from aigateway_launcher.http_client import checked, gateway


def run(*, url: str, key: str | None, as_json: bool) -> None:
    """Print the models as a table, or as the API's own JSON."""
    console = Console(highlight=False)
    with gateway(url, key) as client, Console(stderr=True).status("asking the providers…"):
        listing = checked(client.get("/v1/models"))
    if as_json:
        print(json.dumps(listing, indent=2))
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("model")
    table.add_column("owned by")
    for title in ("context", "output", "$ in/out per Mtok"):
        table.add_column(title, justify="right")
    table.add_column("reads")
    table.add_column("can")
    for model in listing["data"]:
        table.add_row(*_row(model))
    console.print(table)


def _row(model: dict[str, Any]) -> tuple[str, ...]:
    """One line; what is unknown stays blank."""
    able = {"tools": "tools", "reasoning": "reasoning", "structured_output": "schema"}
    prices = [model.get(name) for name in ("input_usd_per_mtok", "output_usd_per_mtok")]
    known = any(price is not None for price in prices)
    return (
        model["id"],
        model.get("owned_by") or "",
        _count(model.get("context_window")),
        _count(model.get("max_output_tokens")),
        " / ".join("?" if price is None else f"{price:g}" for price in prices if known),
        ", ".join(model.get("input_modalities", ())),
        ", ".join(word for name, word in able.items() if model.get(name)),
    )


def _count(value: int | None) -> str:
    return f"{value:,}" if value else ""
