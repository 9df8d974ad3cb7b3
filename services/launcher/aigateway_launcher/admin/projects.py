"""`aigateway projects`: what keys and budgets belong to."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from aigateway_launcher.admin.options import (
    AllowOption,
    ConcurrentOption,
    DefaultModelOption,
    DefaultTokensOption,
    NameOption,
    RpmOption,
    TpmOption,
)
from aigateway_launcher.options import AdminKeyOption, ConfigOption, DataOption, GatewayOption, JsonOption

app = typer.Typer(help="Projects: what keys and budgets belong to.", no_args_is_help=True)

ProjectArgument = Annotated[str, typer.Argument(metavar="ID", help="Lower-case letters, digits and hyphens.")]


@app.command("list")
def listing(
    *,
    url: GatewayOption = None,
    admin_key: AdminKeyOption = None,
    config: ConfigOption = None,
    data_dir: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """List projects."""
    from aigateway_launcher.admin.ask import Where, ask  # noqa: PLC0415 - loaded by the command that needs it

    found = ask(Where(url, admin_key, config, data_dir, as_json), "GET", "/projects")["projects"]
    _show(found, as_json=as_json)


@app.command()
def create(  # noqa: PLR0913 - one parameter per option
    project: ProjectArgument,
    *,
    name: NameOption = None,
    rpm: RpmOption = None,
    tpm: TpmOption = None,
    concurrent: ConcurrentOption = None,
    allow: AllowOption = None,
    default_model: DefaultModelOption = None,
    default_max_tokens: DefaultTokensOption = None,
    url: GatewayOption = None,
    admin_key: AdminKeyOption = None,
    config: ConfigOption = None,
    data_dir: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a project."""
    from aigateway_launcher.admin.ask import Where, ask  # noqa: PLC0415 - loaded by the command that needs it
    from aigateway_launcher.admin.given import rights  # noqa: PLC0415

    body: dict[str, Any] = {"id": project} | ({} if name is None else {"name": name})
    body |= rights(
        rpm=rpm, tpm=tpm, concurrent=concurrent, allow=allow, model=default_model, max_tokens=default_max_tokens
    )
    found = ask(Where(url, admin_key, config, data_dir, as_json), "POST", "/projects", body)
    _show(found, as_json=as_json)


@app.command()
def update(  # noqa: PLR0913 - one parameter per option
    project: ProjectArgument,
    *,
    name: NameOption = None,
    rpm: RpmOption = None,
    tpm: TpmOption = None,
    concurrent: ConcurrentOption = None,
    allow: AllowOption = None,
    default_model: DefaultModelOption = None,
    default_max_tokens: DefaultTokensOption = None,
    disabled: Annotated[
        bool | None, typer.Option("--disable/--enable", help="Refuse its keys, or take them again.")
    ] = None,
    url: GatewayOption = None,
    admin_key: AdminKeyOption = None,
    config: ConfigOption = None,
    data_dir: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change what is given, and nothing else; `none` takes a limit away."""
    from aigateway_launcher.admin.ask import Where, ask, part  # noqa: PLC0415 - loaded by the command that needs it
    from aigateway_launcher.admin.given import rights, something  # noqa: PLC0415

    body: dict[str, Any] = {} if name is None else {"name": name}
    body |= {} if disabled is None else {"disabled": disabled}
    body |= rights(
        rpm=rpm, tpm=tpm, concurrent=concurrent, allow=allow, model=default_model, max_tokens=default_max_tokens
    )
    where = Where(url, admin_key, config, data_dir, as_json)
    _show(ask(where, "PATCH", f"/projects/{part(project)}", something(body)), as_json=as_json)


def _show(found: Any, *, as_json: bool) -> None:
    from aigateway_launcher.admin import show  # noqa: PLC0415 - loaded by the command that needs it

    columns = (
        ("id", show.field("id")),
        ("name", show.field("name")),
        ("state", lambda row: "disabled" if row["disabled"] else "active"),
        ("limits", show.limits),
        ("models", show.models),
        ("default model", lambda row: row["defaults"]["model"]),
    )
    show.answer(found, as_json=as_json, columns=columns)
