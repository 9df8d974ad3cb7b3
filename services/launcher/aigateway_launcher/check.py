"""`aigateway check-config`: is the configuration right, and what does it enable?"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from aigateway_common.settings import ConfigurationError
from rich.console import Console

from aigateway_launcher import banner
from aigateway_launcher.plan import make
from aigateway_launcher.start import ollama_found

if TYPE_CHECKING:
    from aigateway_launcher.plan import Overrides


def run(overrides: Overrides, *, as_json: bool) -> None:
    """Print the verdict; exit with 2 when there are mistakes."""
    try:
        plan = make(overrides, os.environ, ollama_found=ollama_found)
    except ConfigurationError as error:
        if not as_json:
            raise
        problems = [{"where": problem.where, "message": problem.message} for problem in error.problems]
        print(json.dumps({"ok": False, "problems": problems}, indent=2))
        sys.exit(2)
    if as_json:
        enabled = {name: plan.sources.get(name) for name in plan.providers}
        print(json.dumps({"ok": True, "enabled": enabled, "disabled": dict(plan.disabled)}, indent=2))
        return
    console = Console(highlight=False)
    console.print(f"The configuration is right ({plan.config_file or 'no file; environment and defaults'}).\n")
    console.print(banner.providers_table(plan))
