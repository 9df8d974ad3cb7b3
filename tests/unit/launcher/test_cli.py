"""Services start by the same commands that the whole command line has."""

from __future__ import annotations

import typer
from aigateway_launcher import cli


def test_what_starts_services_has_the_options_of_the_whole_command_line() -> None:
    whole, few = typer.main.get_group(cli.app), typer.main.get_group(cli.services)
    assert set(few.commands) == {"up", "serve"}
    for name, command in few.commands.items():
        assert command.help == whole.commands[name].help
        assert [one.opts for one in command.params] == [one.opts for one in whole.commands[name].params]
