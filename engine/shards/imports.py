"""What a training script imports from third parties, so that a process can have imported it beforehand. Pure, by AST."""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

FILES = 50  # of the run tree that are looked into
FILE_BYTES = 2 << 20


def warm_imports(wanted: bool, interpreter: str, argv: Sequence[str], tree: Path) -> tuple[str, ...]:
    """What a warm parent has to import for the command `argv` in `tree`; empty: it starts cold.

    Warm is for `python script.py args…` with the lab's interpreter and a script that lies in the run tree.
    """
    if not wanted or len(argv) < 2 or argv[0] != interpreter or not is_script(argv[1]):
        return ()
    return third_party_imports(tree, argv[1])


def is_script(word: str) -> bool:
    """True for a plain relative path of a Python file: no option, nothing outside the tree."""
    path = PurePosixPath(word)
    plain = str(path) == word and not path.is_absolute() and ".." not in path.parts
    return plain and word.endswith(".py") and not word.startswith("-")


def third_party_imports(tree: Path, script: str) -> tuple[str, ...]:
    """Modules outside the standard library that `script` and the files of `tree` it imports load, sorted, by dotted name.

    Empty when a file cannot be read or parsed, or sets environment variables before one of its third-party imports:
    a module may read them when it is imported.
    """
    found: set[str] = set()
    base = (tree / script).parent
    places = [place for place in dict.fromkeys((base, tree, tree / "src")) if place.is_dir()]
    todo, seen = [tree / script], set[Path]()
    while todo and len(seen) < FILES:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        body = _parsed(path)
        if body is None:
            return ()
        environ = False
        for statement in body:
            for name in _imported(statement):
                own = _in_tree(places, name)
                todo += own or ()
                if own is None and name.partition(".")[0] not in sys.stdlib_module_names:
                    if environ:
                        return ()
                    found.add(name)
            environ = environ or _touches_environment(statement)
    return tuple(sorted(found))


def _parsed(path: Path) -> list[ast.stmt] | None:
    try:
        if path.stat().st_size > FILE_BYTES:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in somebody else's strings are not our news
            return ast.parse(path.read_bytes()).body
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _imported(statement: ast.stmt) -> Iterator[str]:
    """Modules that a statement of the module itself imports; those of functions come later, if ever."""
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
    elif isinstance(statement, ast.ImportFrom) and statement.module and statement.level == 0:
        yield statement.module
    elif isinstance(statement, ast.Try):
        for each in statement.body:
            yield from _imported(each)


def _in_tree(places: list[Path], name: str) -> list[Path] | None:
    """Files of the run tree that importing `name` runs; None when it is no module of the tree."""
    top, *rest = name.split(".")
    for place in places:
        if (place / f"{top}.py").is_file():
            return [place / f"{top}.py"]
        if (place / top).is_dir():
            files = [place / top / "__init__.py"]
            inner = (place / top).joinpath(*rest)
            files += [inner.with_suffix(".py"), inner / "__init__.py"] if rest else []
            return [each for each in files if each.is_file()]
    return None


def _touches_environment(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return False
    names = {each.attr for each in ast.walk(statement) if isinstance(each, ast.Attribute)}
    return bool(names & {"environ", "putenv"})
