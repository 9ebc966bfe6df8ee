"""`cockpit sql`: a SELECT or a named question, answered as a table, as JSON, or into a file."""

from __future__ import annotations

import argparse
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from cockpit import listing, sql_export
from cockpit.attach import EngineDown, Session, attached, lab_here
from cockpit.commands import Failed, WrongUse, _width, emit
from cockpit.history_arguments import LIMIT
from cockpit.sql_export import FORMATS, Exists, ExportError, decoded
from engine.rpc import RpcError
from engine.text import clean, clean_line


def sql(args: argparse.Namespace) -> int:
    """Carry out `cockpit sql`."""
    if args.output is not None and args.limit is not None:
        raise WrongUse("-o writes every row: put a LIMIT into the SELECT instead of --limit")
    root = lab_here(args.lab)
    if args.question is None:
        if args.output or args.save or args.show:
            raise WrongUse("name a query, or write a SELECT (`cockpit sql` lists the queries)")
        return _list(args, root)
    if args.show:
        return _show(args, root)
    asked = asked_of(args.question, args.param)
    if args.save is not None:
        return _save(args, root, asked)
    if args.output is not None:
        return _export(args, root, asked)
    asked |= {"limit": args.limit or LIMIT, "deadline_s": args.deadline}
    with attached(root) as session:
        answer = _stoppable(root, session, "sql", asked)
    names = [clean_line(each) for each in answer["columns"]]
    text = listing.table(names, [tuple(row) for row in answer["rows"]], _width())
    note = f"\n({len(answer['rows'])} rows{', more were cut' if answer['truncated'] else ''}, {answer['ms']:.0f} ms)"
    return emit(args, answer, text + note + "".join(f"\n{clean(each)}" for each in answer["notes"]))


def asked_of(question: str, params: Iterable[str]) -> dict[str, Any]:
    """A SELECT (`text`) or the name of a query (`query`), with its `params` of NAME=VALUE words. Raises WrongUse."""
    key = "query" if len(question.split()) == 1 else "text"
    return {key: question.strip(), "params": dict(_param(each) for each in params)}


def _param(text: str) -> tuple[str, str]:
    name, mark, value = text.partition("=")
    if not mark or not name:
        raise WrongUse(f"--param {text!r}: write NAME=VALUE")
    return name, value


def _stoppable(root: Path, session: Session, method: str, asked: dict[str, Any]) -> Any:
    """The answer; Ctrl-C stops the query where it runs."""
    request = f"cli {uuid.uuid4().hex}"
    try:
        return session.call(method, request=request, **asked)
    except KeyboardInterrupt:
        with suppress(OSError, RpcError, EngineDown), attached(root, start=False) as other:
            other.call("sql_cancel", request=request)
        raise


def _list(args: argparse.Namespace, root: Path) -> int:
    with attached(root) as session:
        found = session.call("queries")
    rows = [(each["name"], each["source"], each["title"], each["description"]) for each in found["queries"]]
    return emit(args, found, listing.table(("query", "source", "asks", "which is"), rows, _width()))


def _show(args: argparse.Namespace, root: Path) -> int:
    with attached(root) as session:
        found = {each["name"]: each for each in session.call("queries")["queries"]}
    query = found.get(args.question.strip())
    if query is None:
        raise Failed(f"no query {args.question!r}; there are {', '.join(found)}")
    return emit(args, query, clean(query["problem"] or query["sql"]))


def _save(args: argparse.Namespace, root: Path, asked: dict[str, Any]) -> int:
    if "query" in asked:
        raise WrongUse("--save keeps a SELECT; this is the name of a query already")
    told = {"name": args.save, "title": args.title, "description": args.description, "text": asked["text"]}
    with attached(root) as session:
        saved = session.call("sql_save", **told, overwrite=args.force)
    return emit(args, saved, f"saved to {clean(saved['path'])}: `cockpit sql {args.save}` asks it")


def _export(args: argparse.Namespace, root: Path, asked: dict[str, Any]) -> int:
    path: Path = args.output
    form = FORMATS.get(path.suffix.lower())
    if form is None:
        raise WrongUse(f"{path}: the name has to end in {', '.join(FORMATS)}, which says the format")
    if path.exists() and not args.force:
        raise WrongUse(f"{path} is there already: choose another name, or --force")
    with attached(root) as session:
        answer = _stoppable(root, session, "sql_open", {**asked, "deadline_s": args.deadline})
        try:
            size = write_whole(path, _parts(session, answer["result"], form), force=args.force)
        finally:
            with suppress(RpcError, EngineDown):
                session.call("sql_close", result=answer["result"])
    done = {"path": str(path), "format": form, "bytes": size}
    done |= {name: answer[name] for name in ("rows", "columns", "types", "truncated", "ms", "notes")}
    said = f"{answer['rows']} rows, {size / 1e6:.1f} MB in {clean(str(path))}"
    return emit(args, done, said + "".join(f"\n{clean(each)}" for each in answer["notes"]))


def _parts(session: Session, result: str, form: str) -> Iterator[bytes]:
    number: int | None = 0
    while number is not None:
        part = session.call("sql_export", result=result, format=form, start_part=number)
        yield decoded(part["part"])
        number = part["next"]


def write_whole(path: Path, pieces: Iterable[bytes], *, force: bool) -> int:
    """Write a file that appears whole or not at all; its size in bytes. Raises Failed; without `force` also when there is
    one of that name by then."""
    try:
        return sql_export.write_whole(path, pieces, replace=force)
    except Exists:
        raise Failed(f"{path} is there already: choose another name, or --force") from None
    except ExportError as error:
        raise Failed(str(error)) from None
