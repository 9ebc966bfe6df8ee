"""Where a change touches what protected code relies on, though it leaves that code alone: a module that it imports, a file that
it names. Pure but for `protected_code`."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import PurePosixPath

from engine.core import Core

MAX_FILES, MAX_SIZE = 200, 400_000


@lru_cache(maxsize=2)
def protected_code(core: Core, parent: str) -> Mapping[str, bytes]:
    """The protected Python files of a commit, by path; large ones are left out. Runs on git's thread."""
    paths = [path for path in sorted(core.repo.entries(parent)) if path.endswith(".py") and core.lab.is_protected(path)]
    found: dict[str, bytes] = {}
    for path in paths[:MAX_FILES]:
        data = core.repo.read(parent, path)
        if data is not None and len(data) <= MAX_SIZE:
            found[path] = data
    return found


def neighbours(
    before: Mapping[str, bytes | None], after: Mapping[str, bytes | None], protected: Mapping[str, bytes]
) -> Iterator[str]:
    """A sentence for each changed file that protected code imports, would import, or names."""
    changed = [path for path in sorted({*before, *after}) if before.get(path) != after.get(path)]
    for keeper, source in protected.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        imported, named = set(_imported(keeper, tree)), set(_named(tree))
        for path in changed:
            if path in imported:
                new = "is new, and would be imported by" if before.get(path) is None else "changes, and is imported by"
                yield f"{path} {new} {keeper}, which is protected: what that computes may change"
            elif PurePosixPath(path).name in named:
                yield f"{path} changes, and {keeper}, which is protected, names a file like it"


def _imported(keeper: str, tree: ast.AST) -> Iterator[str]:
    """Paths that the imports of a file may mean, seen from the top of the lab and from its own directory."""
    here = PurePosixPath(keeper).parent
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules, bases = [alias.name for alias in node.names], [PurePosixPath(), here]
        elif isinstance(node, ast.ImportFrom):
            stem = node.module or ""
            modules = [stem, *(f"{stem}.{alias.name}".strip(".") for alias in node.names)]
            bases = [PurePosixPath(), here]
            if node.level:
                up = [here, *here.parents]
                bases = [up[min(node.level - 1, len(up) - 1)]]
        else:
            continue
        for module in filter(None, modules):
            parts = module.split(".")
            for base in bases:
                for n in range(1, len(parts) + 1):
                    place = base.joinpath(*parts[:n])
                    yield f"{place}.py"
                    yield str(place / "__init__.py")


def _named(tree: ast.AST) -> Iterator[str]:
    """Names of files that stand in the text of a program, without their directories."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and 2 < len(node.value) < 200:
            name = node.value.strip().rsplit("/", 1)[-1]
            if "." in name and " " not in name:
                yield name
