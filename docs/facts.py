"""Writes the facts that documents list (errors, settings, variables, providers) from the code, between their markers.

`make docs` writes them, `make docs-check` fails when they are out of date. A document marks the place with
`<!-- facts: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aigateway_common.reasons import REASONS
from aigateway_launcher.config import Config
from aigateway_launcher.environment import described
from aigateway_providers.registry import PROVIDERS
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

FOLDER = Path(__file__).parent
MARKED = re.compile(r"(<!-- facts: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table."""
    columns = list(header)
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def errors() -> str:
    """Every reason."""
    rows = (
        (
            f"`{r.name}`",
            r.http_status,
            f"`{r.code.name}`",
            f"`{r.openai_type}`",
            f"`{r.openai_code}`" if r.openai_code else "",
            "yes" if r.retryable else "no",
            r.when,
        )
        for r in REASONS.values()
    )
    return table(("reason", "HTTP", "gRPC", "`error.type`", "`error.code`", "try again", "when"), rows)


def environment() -> str:
    """Every environment variable."""
    return table(("variable", "what it is for"), ((f"`{name}`", text) for name, text in described().items()))


def settings() -> str:
    """Every setting of the file."""
    return table(("setting", "default"), ((f"`{name}`", f"`{default}`") for name, default in _settings(Config, "")))


def providers() -> str:
    """Every kind of provider."""
    rows = (
        (
            row.title,
            f"`{row.kind}/…`",
            " or ".join(f"`{name}`" for name in row.key_env) or "none",
            f"`{row.base_url}`" if row.base_url else "",
            " or ".join(f"`{name}`" for name in row.url_env),
        )
        for row in PROVIDERS.values()
    )
    return table(("provider", "models", "key", "address", "another address"), rows)


def _settings(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, object]]:
    for name, field in section.model_fields.items():
        inner, path = field.annotation, f"{prefix}{name}"
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _settings(inner, f"{path}.")
            continue
        values = getattr(inner, "__args__", ())
        below = next((value for value in values if isinstance(value, type) and issubclass(value, BaseModel)), None)
        if below is not None:  # a mapping of names to sections, a list of them, or one that may be absent
            yield from _settings(
                below, path + {dict: ".NAME.", list: "[]."}.get(getattr(inner, "__origin__", None), ".")
            )
        else:
            yield path, "required" if field.default is PydanticUndefined else field.default


FACTS: dict[str, Callable[[], str]] = {
    "errors": errors,
    "environment": environment,
    "settings": settings,
    "providers": providers,
}


def main(*, check: bool) -> int:
    """Write the facts, or say which documents are out of date."""
    stale = []
    for path in [*sorted(FOLDER.glob("*.md")), FOLDER.parent / "README.md"]:
        text = path.read_text(encoding="utf-8")
        fresh = MARKED.sub(lambda match: match[1] + FACTS[match[2]]() + match[3], text)
        if fresh != text:
            stale.append(path.name)
            if not check:
                path.write_text(fresh, encoding="utf-8")
    if check and stale:
        print(f"out of date: {', '.join(stale)}; run 'make docs'", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv))
