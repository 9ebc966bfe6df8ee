"""What `cockpit sql` and `cockpit snapshot` take; apart from what they do, so that no other command loads it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

LIMIT = 1000
KEEP = 5


def add_sql(sub: argparse.ArgumentParser, count: Callable[[str], int]) -> None:
    """What `cockpit sql` takes; `count` reads a whole number above 0."""
    sub.add_argument("question", nargs="?", help="a SELECT, or the name of a query (`cockpit sql` lists them)")
    sub.add_argument(
        "--param", action="append", default=[], metavar="NAME=VALUE", help="a parameter of a query ($NAME)"
    )
    sub.add_argument("--limit", type=count, help=f"most rows (default: {LIMIT}; -o writes all)")
    sub.add_argument("--deadline", type=float, default=10.0, metavar="S", help="stop it after so long (default: 10 s)")
    sub.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write the rows: .csv, .json, .jsonl or .parquet"
    )
    sub.add_argument("--force", action="store_true", help="overwrite the file, or the query of that name")
    sub.add_argument("--show", action="store_true", help="print the SQL of a named query")
    sub.add_argument("--save", metavar="NAME", help="keep the SELECT as a query of this lab, queries/NAME.sql")
    sub.add_argument("--title", default="", help="with --save: what it asks")
    sub.add_argument("--description", default="", help="with --save: what its answer says")


def add_snapshot(sub: argparse.ArgumentParser, count: Callable[[str], int]) -> None:
    """What `cockpit snapshot` takes; `count` reads a whole number above 0."""
    sub.add_argument(
        "path", nargs="?", type=Path, help="where to put it (default: .cockpit/snapshots/history-TIME.duckdb)"
    )
    sub.add_argument("--keep", type=count, default=KEEP, help=f"how many dated ones stay (default: {KEEP})")
    sub.add_argument("--force", action="store_true", help="overwrite PATH")
