"""Reading a configuration file: YAML with `${ENV}` substitution, and every mistake with its line.

Knows files and text only; what the settings mean is the launcher's business, and no service reads a file or the
environment itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

import yaml
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")

Location = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in the configuration."""

    where: str
    """`aigateway.yaml:12`, or the environment variable's name."""
    message: str
    """What is wrong and what would be right."""

    @override
    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class ConfigurationError(Exception):
    """Everything that is wrong with the configuration, all at once."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


@dataclass(slots=True)
class Document:
    """A file's content, with where each setting stands."""

    name: str
    data: dict[str, Any] = field(default_factory=dict)
    lines: dict[Location, int] = field(default_factory=dict)
    """The line, from 1, of each setting by its path."""
    variables: dict[Location, str] = field(default_factory=dict)
    """The variable that a setting was taken from, by the setting's path."""
    problems: list[Problem] = field(default_factory=list)

    def where(self, location: Location) -> str:
        """`name:line` of a setting, or of the nearest setting around it."""
        for length in range(len(location), 0, -1):
            if line := self.lines.get(location[:length]):
                return f"{self.name}:{line}"
        return self.name


def load(path: Path, environment: Mapping[str, str]) -> Document:
    """The document at `path`, with `${NAME}` and `${NAME:-default}` replaced from `environment`.

    Mistakes are collected in `Document.problems`: broken YAML, a key given twice, a variable that is not set.

    Raises:
        ConfigurationError: The file cannot be read.
    """
    document = Document(path.name)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError([Problem(str(path), f"cannot be read: {error}")]) from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        document.problems.append(Problem(f"{path.name}:{line}", f"not valid YAML: {error.problem}"))
        return document
    if root is None:
        return document
    if not isinstance(root, yaml.MappingNode):
        document.problems.append(Problem(f"{path.name}:1", "must hold settings (`name: value`)"))
        return document
    document.data = _Builder(document, environment).mapping(root, ())
    return document


def suggestion(name: str, known: Iterable[str]) -> str:
    """`; did you mean …?` when a known name is near, else nothing."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean `{near[0]}`?" if near else ""


class _Builder:
    """Nodes of a YAML tree into plain values."""

    def __init__(self, document: Document, environment: Mapping[str, str]) -> None:
        self._document = document
        self._environment = environment
        self._loader = yaml.SafeLoader("")

    def mapping(self, node: yaml.MappingNode, at: Location) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            here = (*at, key)
            self._document.lines.setdefault(here, key_node.start_mark.line + 1)
            if key in result:
                line = key_node.start_mark.line + 1
                self._problem(line, f"`{key}` is given twice; the first is at line {self._document.lines[here]}")
                continue
            result[key] = self._value(value_node, here)
        return result

    def _value(self, node: yaml.Node, at: Location) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, at)
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self._document.lines[(*at, index)] = item.start_mark.line + 1
            return [self._value(item, (*at, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and "${" in node.value:
            return self._substituted(node, at)
        return self._loader.construct_object(node)

    def _substituted(self, node: yaml.ScalarNode, at: Location) -> Any:
        missing: list[str] = []

        def replace(match: re.Match[str]) -> str:
            name, default = match.groups()
            self._document.variables[at] = name
            value = self._environment.get(name) or default
            if value is None:
                missing.append(name)
                return ""
            return value

        text = _VARIABLE.sub(replace, node.value)
        line = node.start_mark.line + 1
        for name in missing:
            self._problem(line, f"`${{{name}}}` is not set; set it, or write `${{{name}:-default}}`")
        return yaml.safe_load(text) if _is_plain_number(text) and not node.style else text

    def _problem(self, line: int, message: str) -> None:
        self._document.problems.append(Problem(f"{self._document.name}:{line}", message))


def _is_plain_number(text: str) -> bool:
    return bool(re.fullmatch(r"-?\d+(\.\d+)?", text))
