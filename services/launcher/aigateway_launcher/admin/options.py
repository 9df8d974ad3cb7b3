"""Options about what a project or a key may use."""

from __future__ import annotations

from typing import Annotated

import typer

_NUMBER = "N|none"
RpmOption = Annotated[str | None, typer.Option("--rpm", metavar=_NUMBER, help="Calls a minute.")]
TpmOption = Annotated[str | None, typer.Option("--tpm", metavar=_NUMBER, help="Tokens a minute, both ways together.")]
ConcurrentOption = Annotated[
    str | None, typer.Option("--concurrent", metavar=_NUMBER, help="Calls under way at the same time.")
]
AllowOption = Annotated[
    list[str] | None,
    typer.Option("--allow", metavar="MODEL", help="A model that may be asked for, `*` for any text; `none`: all."),
]
DefaultModelOption = Annotated[
    str | None, typer.Option("--default-model", metavar="MODEL|none", help="The model of calls for `default`.")
]
DefaultTokensOption = Annotated[
    str | None, typer.Option("--default-max-tokens", metavar=_NUMBER, help="The most tokens of an answer.")
]
NameOption = Annotated[str | None, typer.Option("--name", help="For people.")]
