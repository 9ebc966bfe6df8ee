"""What a training script imports from libraries, so that a process can have imported it beforehand. Pure, by AST."""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

FILES = 50  # of the run tree that are looked into
FILE_BYTES = 2 << 20
_SPEAKING = frozenset(
    ("antigravity", "idlelib", "this", "turtle", "turtledemo")
)  # standard, but not to be imported unasked


def warm_imports(wanted: bool, interpreter: str, argv: Sequence[str], tree: Path) -> tuple[str, ...]:
    """What a warm parent has to import for the command `argv` in `tree`; empty: it starts cold.

    Warm is for `python script.py args…` with the lab's interpreter and a script that lies in the run tree.
    """
    if not wanted or len(argv) < 2 or argv[0] != interpreter or not is_script(argv[1]):
        return ()
    return library_imports(tree, argv[1])


def is_script(word: str) -> bool:
    """True for a plain relative path of a Python file: no option, nothing outside the tree."""
    path = PurePosixPath(word)
    plain = str(path) == word and not path.is_absolute() and ".." not in path.parts
    return plain and word.endswith(".py") and not word.startswith("-")


def library_imports(tree: Path, script: str) -> tuple[str, ...]:
    """Modules from elsewhere than `tree` that `script` and the files of `tree` it imports load, sorted, by dotted name.

    Empty when all of them are the standard library's, which is soon imported, or when a file cannot be read or parsed. So it
    is when one sets environment variables before a third-party import: a module may read them when it is imported.
    """
    found, standard = set[str](), set[str]()
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
                if name.partition(".")[0] in _SPEAKING:
                    continue
                own = _in_tree(places, name)
                todo += own or ()
                if own is None and _is_standard(name):
                    standard.add(name)
                elif own is None:
                    if environ:
                        return ()
                    found.add(name)
            environ = environ or _touches_environment(statement)
    return tuple(sorted(found | standard)) if found else ()


def _is_standard(name: str) -> bool:
    return name.partition(".")[0] in sys.stdlib_module_names


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
