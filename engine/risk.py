"""Static rules over a diff: short sentences about what a reviewer should look at twice, before anything of it runs.

They flag, they do not judge: every rule has innocent reasons to speak, and code that means harm can be written past all of
them. What keeps a shard from doing damage is the box it runs in. Pure; Python is read by its syntax tree, never imported.
"""

from __future__ import annotations

import ast
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from engine.textdiff import changed_lines

MANY_LINES = 80
DATA_FILES = (".toml", ".yaml", ".yml", ".json", ".jsonl", ".csv", ".txt")
_SEED = re.compile(r"seed|random_state|\bGenerator\(", re.I)
_BUDGET = re.compile(r"(?:\b|_)(?:steps|iters|iterations|epochs|budget|max_tokens|timeout|time_limit)(?:\b|_)", re.I)
_METRIC = re.compile(r"(?:\b|_)(?:val_bpb|bpb|metrics?|evaluate|eval_loss|val_loss|held_?out)(?:\b|_)", re.I)
_DATA = re.compile(
    r"(?<![.\w])(?:\w+_)?(?:data|datasets?|dataloaders?|loader|mix|mixture|sampler|shuffle|corpus|curriculum|documents?|tokenizer)"
    r"(?:_\w+)?\b",
    re.I,
)
_NAMES = {  # calls by bare name, and what they do
    "open": "opens files",
    "exec": "runs text as code",
    "eval": "runs text as code",
    "compile": "runs text as code",
    "__import__": "imports by name",
    "globals": "reaches into the interpreter",
    "locals": "reaches into the interpreter",
    "vars": "reaches into the interpreter",
    "setattr": "sets attributes by name",
    "delattr": "sets attributes by name",
    "input": "waits for input",
    "breakpoint": "waits for input",
}
_MODULES = {  # calls into a module (or below it), and what they do
    "os": "calls the operating system",
    "posix": "calls the operating system",
    "fcntl": "calls the operating system",
    "resource": "calls the operating system",
    "sys.modules": "reaches into the interpreter",
    "sys.path": "reaches into the interpreter",
    "sys.meta_path": "reaches into the interpreter",
    "sys.settrace": "reaches into the interpreter",
    "sys.setprofile": "reaches into the interpreter",
    "sys._getframe": "reaches into the interpreter",
    "shutil": "opens files",
    "pathlib": "opens files",
    "io": "opens files",
    "tempfile": "opens files",
    "glob": "opens files",
    "fileinput": "opens files",
    "mmap": "opens files",
    "sqlite3": "opens files",
    "zipfile": "opens files",
    "tarfile": "opens files",
    "torch.save": "opens files",
    "numpy.save": "opens files",
    "numpy.savez": "opens files",
    "numpy.fromfile": "opens files",
    "numpy.memmap": "opens files",
    "safetensors": "opens files",
    "pickle": "unpickles",
    "marshal": "unpickles",
    "dill": "unpickles",
    "cloudpickle": "unpickles",
    "joblib": "unpickles",
    "torch.load": "unpickles",
    "numpy.load": "unpickles",
    "subprocess": "starts processes",
    "multiprocessing": "starts processes",
    "torch.multiprocessing": "starts processes",
    "concurrent.futures": "starts processes",
    "asyncio.create_subprocess_exec": "starts processes",
    "asyncio.create_subprocess_shell": "starts processes",
    "pty": "starts processes",
    "signal": "starts processes",
    "socket": "uses the network",
    "urllib": "uses the network",
    "http": "uses the network",
    "requests": "uses the network",
    "httpx": "uses the network",
    "ftplib": "uses the network",
    "smtplib": "uses the network",
    "ssl": "uses the network",
    "xmlrpc": "uses the network",
    "socketserver": "uses the network",
    "webbrowser": "uses the network",
    "asyncio.open_connection": "uses the network",
    "asyncio.start_server": "uses the network",
    "aiohttp": "uses the network",
    "urllib3": "uses the network",
    "websockets": "uses the network",
    "wandb": "uses the network",
    "huggingface_hub": "uses the network",
    "torch.hub": "uses the network",
    "torch.distributed": "uses the network",
    "ctypes": "calls native code",
    "cffi": "calls native code",
    "torch.utils.cpp_extension": "calls native code",
    "importlib": "imports by name",
    "runpy": "runs text as code",
    "builtins": "reaches into the interpreter",
    "gc": "reaches into the interpreter",
    "inspect": "reaches into the interpreter",
}
_METHODS = {
    "write_text": "opens files",
    "write_bytes": "opens files",
    "read_text": "opens files",
    "read_bytes": "opens files",
    "tofile": "opens files",
    "unlink": "opens files",
    "rmdir": "opens files",
    "mkdir": "opens files",
    "symlink_to": "opens files",
    "hardlink_to": "opens files",
    "from_pretrained": "uses the network",
}
_DUNDERS = {
    "__class__",
    "__subclasses__",
    "__globals__",
    "__builtins__",
    "__code__",
    "__dict__",
    "__mro__",
    "__bases__",
}


@dataclass
class _Facts:
    """What one version of a Python file does, each with how often."""

    imports: Counter[str] = field(default_factory=Counter)
    acts: Counter[tuple[str, str]] = field(default_factory=Counter)  # (what it does, by which call)


def risks(
    before: Mapping[str, bytes | None], after: Mapping[str, bytes | None], most_lines: int = MANY_LINES
) -> tuple[str, ...]:
    """Sentences about the files that differ, by path; empty when no rule speaks up. More than `most_lines` are many."""
    sentences: list[str] = []
    total = 0
    for path in sorted({*before, *after}):
        old, new = before.get(path), after.get(path)
        if old == new:
            continue
        removed, added = changed_lines(old, new)
        total += len(removed) + len(added)
        sentences += _file(path, old, new, removed, added)
    if total > most_lines:
        sentences.append(f"{total} lines change: more than {most_lines} are hard to review")
    return tuple(dict.fromkeys(sentences))


def _file(path: str, old: bytes | None, new: bytes | None, removed: list[str], added: list[str]) -> Iterator[str]:
    if new is None:
        yield f"{path} is deleted"
        return
    touched = [*removed, *added]
    if path.endswith((".py", ".pyi", ".pyw")):
        yield from _python(path, old, new)
        if any(_DATA.search(line) for line in touched):
            yield f"{path}: lines about the data or its mix change"
    elif path.endswith(DATA_FILES):
        yield f"{path} changes: what the model is trained on, or how, may be set there"
    else:
        yield f"{path} changes, and it is not Python: no rule reads it"
    for rule, what in ((_SEED, "the seed or the random numbers"), (_BUDGET, "the number of steps or another budget")):
        if any(rule.search(line) for line in touched):
            yield f"{path}: lines about {what} change"
    if any(_METRIC.search(line) for line in touched):
        yield f"{path}: lines about evaluation or metrics change"
    hidden = sorted({f"U+{ord(char):04X}" for line in added for char in line if _is_hidden(char)})
    if hidden:
        yield f"{path}: added lines hold invisible or direction-changing characters ({', '.join(hidden[:5])})"


def _python(path: str, old: bytes | None, new: bytes) -> Iterator[str]:
    facts = _facts(new)
    if facts is None:
        yield f"{path} does not parse as Python"
        return
    known = (_facts(old) if old is not None else None) or _Facts()
    fresh = sorted(facts.imports.keys() - known.imports.keys() - {"__future__"})
    if fresh:
        yield f"{path} imports {_listed(fresh)}, which it did not before"
    acts: dict[str, list[str]] = {}
    for (act, call), count in sorted(facts.acts.items()):
        if count > known.acts[act, call]:
            acts.setdefault(act, []).append(call)
    for act, calls in acts.items():
        calls = [call for call in calls if not any(other.startswith(call + ".") for other in calls)]
        yield f"{path} {act} in a new place: {_listed(calls)}"


def _facts(source: bytes) -> _Facts | None:
    """What a Python file does; None when it does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
        nodes = list(ast.walk(tree))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    facts = _Facts()
    names: dict[str, str] = {}  # local name -> what it stands for
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                facts.imports[alias.name] += 1
                names[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            facts.imports[module] += 1
            for alias in node.names:
                names[alias.asname or alias.name] = f"{module}.{alias.name}"
                if alias.name == "*":
                    facts.acts["takes every name of a module", module] += 1
    for node in nodes:
        for act in _acts(node, names):
            facts.acts[act] += 1
    return facts


def _acts(node: ast.AST, names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Attribute) and node.attr in _DUNDERS and not _is_super_or_self(node):
        yield "reaches into the interpreter", node.attr
    if isinstance(node, ast.Assign | ast.AugAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            dotted = _dotted(target, names) if isinstance(target, ast.Attribute) else None
            if dotted is not None and not dotted.startswith("torch.backends."):
                yield "replaces part of an imported module", dotted
    if isinstance(node, ast.Name) and node.id in _NAMES and isinstance(node.ctx, ast.Load) and node.id not in names:
        yield _NAMES[node.id], node.id
    dotted = _dotted(node, names) if isinstance(node, ast.Attribute | ast.Name) else None
    if dotted is not None and isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Load):
        parts = dotted.split(".")
        for n in range(len(parts), 0, -1):
            act = _MODULES.get(".".join(parts[:n]))
            if act and len(parts) > 1 and not dotted.startswith("os.path"):
                yield act, dotted
                break
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr" and node.args:
        module = _dotted(node.args[0], names)
        if module is not None:
            yield "picks out of a module by name", f"getattr({module}, …)"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _METHODS:
        yield _METHODS[node.func.attr], node.func.attr


def _is_super_or_self(node: ast.Attribute) -> bool:
    return (
        node.attr in ("__class__", "__dict__") and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
    )


def _dotted(node: ast.expr | ast.AST, names: Mapping[str, str]) -> str | None:
    """`a.b.c` with `a` looked up among the imports; None when it does not begin with an imported name."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name) and node.id in names:
        return ".".join([names[node.id], *reversed(parts)])
    return None


def _is_hidden(char: str) -> bool:
    return char not in "\n\t\r" and unicodedata.category(char) in ("Cc", "Cf", "Co", "Cn", "Zl", "Zp")


def _listed(items: list[str]) -> str:
    shown = ", ".join(items[:4])
    return f"{shown} and {len(items) - 4} more" if len(items) > 4 else shown
