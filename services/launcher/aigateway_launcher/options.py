"""Options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[Path | None, typer.Option("--config", help="The configuration file [./aigateway.yaml].")]
DataOption = Annotated[Path | None, typer.Option("--data-dir", help="Folder of the ledger and the outbox [./data].")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
GatewayOption = Annotated[
    str | None,
    typer.Option(
        "--url", envvar="AIGATEWAY_URL", help="A running gateway; without it, the ledger on this machine is used."
    ),
]
AdminKeyOption = Annotated[
    str | None, typer.Option("--admin-key", help="The admin key for --url [ADMIN_API_KEY].", show_default=False)
]
