"""`aigateway alerts` and `aigateway audit`: what needs attention, and who did what."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from aigateway_launcher.options import AdminKeyOption, ConfigOption, DataOption, GatewayOption, JsonOption

LastOption = Annotated[int, typer.Option("--last", min=1, max=1000, help="The most to show.")]


def alerts(
    *,
    open_only: Annotated[bool, typer.Option("--open", help="Only those that are not over.")] = False,
    last: LastOption = 100,
    url: GatewayOption = None,
    admin_key: AdminKeyOption = None,
    config: ConfigOption = None,
    data_dir: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what needs a person's attention, and what did."""
    from aigateway_launcher.admin import show  # noqa: PLC0415 - loaded by the command that needs it
    from aigateway_launcher.admin.ask import Where, ask  # noqa: PLC0415

    where = Where(url, admin_key, config, data_dir, as_json)
    found = ask(where, "GET", "/alerts", open_only=str(open_only).lower(), page_size=last)["alerts"]
    columns = (
        ("began", show.when("opened_at")),
        ("over", show.when("resolved_at", "no")),
        ("kind", show.field("kind")),
        ("with", show.field("subject")),
        ("message", show.field("message")),
    )
    show.answer(found, as_json=as_json, columns=columns)


def audit(
    *,
    last: LastOption = 100,
    before: Annotated[int | None, typer.Option("--before", min=1, help="Only those before this id.")] = None,
    url: GatewayOption = None,
    admin_key: AdminKeyOption = None,
    config: ConfigOption = None,
    data_dir: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show administrative acts, newest first."""
    from aigateway_launcher.admin import show  # noqa: PLC0415 - loaded by the command that needs it
    from aigateway_launcher.admin.ask import Where, ask  # noqa: PLC0415

    where = Where(url, admin_key, config, data_dir, as_json)
    found = ask(where, "GET", "/audit", page_size=last, before_id=before)["events"]
    columns = (
        ("id", show.field("id")),
        ("when", show.when("at")),
        ("who", show.field("actor")),
        ("what", show.field("action")),
        ("to", show.field("subject")),
        ("how", lambda row: "" if row["detail"] is None else json.dumps(row["detail"])),
    )
    show.answer(found, as_json=as_json, columns=columns)
