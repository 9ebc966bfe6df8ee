"""What the commands on the history take: sql, snapshot, import, export, report, plot; what they do is loaded when one runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

LIMIT = 1000
KEEP = 5
FORMATS = "autoresearch, pi-autoresearch, jsonl, csv, json, tensorboard, wandb or mlflow (default: told from the file)"


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


def add_import(sub: argparse.ArgumentParser) -> None:
    """Arguments of `cockpit import`."""
    sub.add_argument("path", type=Path, help="a file, or a directory with event files, .wandb files, results.tsv …")
    sub.add_argument("--format", default="", metavar="NAME", help=FORMATS)
    sub.add_argument(
        "--map", action="append", default=[], metavar="ROLE=COLUMN", help="which column is metric, seed, status …"
    )
    sub.add_argument("--repo", default="", metavar="DIR", help="git repository of its commits (default: where it lies)")
    sub.add_argument("--dry-run", action="store_true", help="only read and report; needs no lab")


def add_export(add: Callable[[str, str], argparse.ArgumentParser], count: Callable[[str], int]) -> None:
    """Arguments of `cockpit export`, `report` and `plot`."""
    export = add("export", "the whole history's tables as files, for notebooks: Parquet, CSV or JSON lines")
    export.add_argument("dir", type=Path, metavar="DIR", help="the folder that they go to; made, and to be empty")
    export.add_argument("--format", choices=("parquet", "csv", "jsonl"), default="parquet", help="default: parquet")
    export.add_argument(
        "--tables",
        default="",
        metavar="NAMES",
        help="only these tables or views, with commas between: leaderboard,runs",
    )
    export.add_argument("--force", action="store_true", help="write into a folder that is not empty, over its files")
    report = add("report", "the campaign as one HTML page, for those who use no terminal; needs no network")
    report.add_argument(
        "file", nargs="?", type=Path, default=Path("report.html"), metavar="FILE", help="default: report.html"
    )
    report.add_argument("--top", type=count, default=5, metavar="N", help="experiments with curves (default: 5)")
    report.add_argument("--force", action="store_true", help="write over a file that is there")
    plot = add(
        "plot", "an answer as a picture: scatter X Y, lines X Y [SERIES], steps X Y [SERIES] or bars LABEL VALUE"
    )
    plot.add_argument("question", help="a SELECT, or the name of a query")
    plot.add_argument(
        "--as", nargs="+", default=[], dest="words", metavar="WORD", help="which; else as the query says, or a guess"
    )
    plot.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help="a parameter of a named query")
    plot.add_argument("--limit", type=count, default=10_000, help="most rows (default: 10000)")
