"""`python -m aigateway_launcher`: the same as the command `aigateway`."""

from __future__ import annotations

from aigateway_launcher.cli import main

if __name__ == "__main__":
    main()
