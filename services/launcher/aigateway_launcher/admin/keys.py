"""`aigateway keys`: who may call. A secret is printed once, by the command that makes it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

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

if TYPE_CHECKING:
    from collections.abc import Mapping

app = typer.Typer(help="Keys: who may call.", no_args_is_help=True)

KeyArgument = Annotated[str, typer.Argument(metavar="ID", help="The key's id, such as key-1a2b3c4d.")]
ExpiresOption = Annotated[
    str | None, typer.Option("--expires", metavar="TIME|none", help="When it ends: 30d, 12h, a day or a moment.")
]


@app.command("list")
def listing(
    *,
    project: Annotated[str | None, typer.Option("--project", help="Only this project's.")] = None,
    url: GatewayOption = None,
    admin_key: AdminKeyOption = None,
    config: ConfigOption = None,
    data_dir: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """List keys, newest first."""
    from aigateway_launcher.admin import show  # noqa: PLC0415 - loaded by the command that needs it
    from aigateway_launcher.admin.ask import Where, ask  # noqa: PLC0415

    where = Where(url, admin_key, config, data_dir, as_json)
    show.answer(ask(where, "GET", "/keys", project=project)["keys"], as_json=as_json, columns=_columns())


@app.command()
def create(  # noqa: PLR0913 - one parameter per option
    *,
    project: Annotated[str, typer.Option("--project", help="The project it belongs to.")] = "default",
    name: NameOption = None,
    rpm: RpmOption = None,
    tpm: TpmOption = None,
    concurrent: ConcurrentOption = None,
    allow: AllowOption = None,
    default_model: DefaultModelOption = None,
    default_max_tokens: DefaultTokensOption = None,
    expires: ExpiresOption = None,
    url: GatewayOption = None,
    admin_key: AdminKeyOption = None,
    config: ConfigOption = None,
    data_dir: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key, and print its secret: this once."""
    from aigateway_launcher.admin import given, show  # noqa: PLC0415 - loaded by the command that needs it
    from aigateway_launcher.admin.ask import Where, ask  # noqa: PLC0415

    body: dict[str, Any] = {"project": project} | _said(name, expires)
    body |= given.rights(
        rpm=rpm, tpm=tpm, concurrent=concurrent, allow=allow, model=default_model, max_tokens=default_max_tokens
    )
    found = ask(Where(url, admin_key, config, data_dir, as_json), "POST", "/keys", body)
    show.secret(found, as_json=as_json, columns=_columns())


@app.command()
def update(  # noqa: PLR0913 - one parameter per option
    key: KeyArgument,
    *,
    name: NameOption = None,
    rpm: RpmOption = None,
    tpm: TpmOption = None,
    concurrent: ConcurrentOption = None,
    allow: AllowOption = None,
    default_model: DefaultModelOption = None,
    default_max_tokens: DefaultTokensOption = None,
    expires: ExpiresOption = None,
    url: GatewayOption = None,
    admin_key: AdminKeyOption = None,
    config: ConfigOption = None,
    data_dir: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change what is given, and nothing else; `none` takes a limit away."""
    from aigateway_launcher.admin import given, show  # noqa: PLC0415 - loaded by the command that needs it
    from aigateway_launcher.admin.ask import Where, ask, part  # noqa: PLC0415

    body = _said(name, expires) | given.rights(
        rpm=rpm, tpm=tpm, concurrent=concurrent, allow=allow, model=default_model, max_tokens=default_max_tokens
    )
    where = Where(url, admin_key, config, data_dir, as_json)
    found = ask(where, "PATCH", f"/keys/{part(key)}", given.something(body))
    show.answer(found, as_json=as_json, columns=_columns())


@app.command()
def rotate(
    key: KeyArgument,
    *,
    overlap: Annotated[str, typer.Option("--overlap", metavar="TIME", help="How long the old key works on.")] = "0",
    url: GatewayOption = None,
    admin_key: AdminKeyOption = None,
    config: ConfigOption = None,
    data_dir: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a successor with the same rights, and print its secret: this once."""
    from aigateway_launcher.admin import given, show  # noqa: PLC0415 - loaded by the command that needs it
    from aigateway_launcher.admin.ask import Where, ask, part  # noqa: PLC0415

    body = {"overlap_seconds": given.span("--overlap", overlap)}
    found = ask(Where(url, admin_key, config, data_dir, as_json), "POST", f"/keys/{part(key)}/rotate", body)
    show.secret(found, as_json=as_json, columns=_columns())


@app.command()
def revoke(
    key: KeyArgument,
    *,
    cut_calls: Annotated[bool, typer.Option("--cut-calls", help="End its calls under way too.")] = False,
    url: GatewayOption = None,
    admin_key: AdminKeyOption = None,
    config: ConfigOption = None,
    data_dir: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a key, everywhere within a second."""
    from aigateway_launcher.admin import show  # noqa: PLC0415 - loaded by the command that needs it
    from aigateway_launcher.admin.ask import Where, ask, part  # noqa: PLC0415

    where = Where(url, admin_key, config, data_dir, as_json)
    found = ask(where, "DELETE", f"/keys/{part(key)}", cut_calls=str(cut_calls).lower())
    show.answer(found, as_json=as_json, columns=_columns())


def _said(name: str | None, expires: str | None) -> dict[str, Any]:
    from aigateway_launcher.admin.given import moment  # noqa: PLC0415 - loaded by the command that needs it

    said: dict[str, Any] = {} if name is None else {"name": name}
    return said if expires is None else said | {"expires_at": moment("--expires", expires, datetime.now(UTC))}


def _columns() -> Any:
    from aigateway_launcher.admin import show  # noqa: PLC0415 - loaded by the command that needs it

    return (
        ("id", show.field("id")),
        ("project", show.field("project")),
        ("name", show.field("name")),
        ("secret", lambda row: row["prefix"] + "…"),
        ("state", _state),
        ("limits", show.limits),
        ("models", show.models),
        ("expires", show.when("expires_at", "never")),
    )


def _state(row: Mapping[str, Any]) -> str:
    if row["revoked_at"] is not None:
        return "revoked"
    expires = row["expires_at"]
    return "expired" if expires is not None and datetime.fromisoformat(expires) <= datetime.now(UTC) else "active"
