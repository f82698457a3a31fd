"""Where a feature is declared: file and line, read from the domain's source, so that no declaration states it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from feature_repo import domain
from feature_repo.declare import Field, Input, Strength, View
from feature_repo.vocabulary import Vocabulary

Found = tuple[str, int]  # file, line


class Definitions:
    """Of the domain in `directory` (empty: the one that ships). What it cannot find is in `domain.py`, no line."""

    def __init__(self, vocabulary: Vocabulary, directory: str = "") -> None:
        self._place = Path(directory) if directory else Path(domain.__file__).parent
        self._signals = {f.name: f.of.signal for f in vocabulary.features if isinstance(f.of, Strength)}
        self._trees = dict(_parsed(self._place))

    def of(self, view: View, field: Field) -> str:
        """`directory/file.py:line`: a signal's strength stands where the signal does."""
        if view.external:
            found = next((f for f in self._calls("VIEWS", view.name, inner=field.name)), None)
        elif field.name in self._signals:
            found = next(self._calls("SIGNALS", self._signals[field.name]), None)
        else:
            found = next(self._calls("FEATURES", field.name), None)
        return self._place_of(field.name, found)

    def of_input(self, given: Input) -> str:
        return self._place_of(given.name, next(self._calls("INPUTS", given.name), None))

    def _place_of(self, declared: str, found: Found | None) -> str:
        found = found or self._templated(declared)
        name, line = found or ("domain.py", 0)
        return f"{self._place.name}/{name}" + (f":{line}" if line else "")

    def _calls(self, listed: str, name: str, inner: str = "") -> Iterator[Found]:
        """Calls that are given this very name, in what is assigned to the list; in such a call the `inner` one."""
        for file, tree in self._trees.items():
            for statement in tree.body:
                if _target(statement) == listed:
                    for call in _naming(statement, name):
                        yield from ((file, c.lineno) for c in (_naming(call, inner) if inner else [call]))

    def _templated(self, name: str) -> Found | None:
        """The f-string that such a name could come from; of several the one that says most of it."""
        found = [
            (said, (file, node.lineno))
            for file, tree in self._trees.items()
            for node in ast.walk(tree)
            if isinstance(node, ast.JoinedStr) and (said := _says(node, name))
        ]
        return max(found, default=(0, None))[1]


def _parsed(place: Path) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(place.glob("*.py")):
        with suppress(SyntaxError, ValueError, OSError):  # it is not the domain's, or it would not have loaded
            yield path.name, ast.parse(path.read_bytes())


def _target(statement: ast.stmt) -> str:
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return statement.target.id
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id
    return ""


def _naming(where: ast.AST, name: str) -> Iterator[ast.Call]:
    """The outermost calls whose first argument or `name` is this text."""
    for node in ast.walk(where):
        if isinstance(node, ast.Call):
            named = [*node.args[:1], *(k.value for k in node.keywords if k.arg == "name")]
            if any(isinstance(value, ast.Constant) and value.value == name for value in named):
                yield node


def _says(template: ast.JoinedStr, name: str) -> int:
    """Characters of the name that the template itself has; 0 where the name does not come from it."""
    fixed = [part.value if isinstance(part, ast.Constant) else None for part in template.values]
    pattern = "".join(".+" if part is None else re.escape(str(part)) for part in fixed)
    return sum(len(str(part)) for part in fixed if part) if re.fullmatch(pattern, name) else 0
