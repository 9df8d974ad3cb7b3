"""`aigateway models`: the models of a running gateway."""

from __future__ import annotations

import json

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
    table.add_column("context", justify="right")
    for model in listing["data"]:
        window = model.get("context_window")
        table.add_row(model["id"], model.get("owned_by") or "", f"{window:,}" if window else "")
    console.print(table)
