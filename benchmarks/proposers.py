"""Compares proposers that cost nothing: what recorded proposals and a sweep over constants find with equally many shards.

    python benchmarks/proposers.py [--shards 30] [--keep DIR]

Each proposer gets a fresh copy of the sample lab: the same trunk, the same data, the same seeds, three of them for every
experiment (`[judge] mode = "fixed"`), so that equal budgets buy equally many, and compared at equal tokens. Smokes are not
counted. Nothing is signed off, so that every experiment of both is compared with that trunk. The next proposal is approved,
whatever it says, for as long as its seeds still fit into the number of shards. Then `queries/proposers.sql` is asked once, over
both histories. It takes a quarter of an hour on two cores, so that `make bench` leaves it out.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import duckdb

from cockpit.attach import Session, attached, state_dir
from cockpit.commands import wait_down
from cockpit.demo import POLICY, set_up
from cockpit.unattended import Rows, approve, drive, experiments, is_settled, waiting

ROOT = Path(__file__).resolve().parent.parent
ARMS = ("recording", "sweep")
NAMES = {"id", "proposal", "experiment", "baseline", "duplicate_of", "round"}
"""Columns that name a row of the same lab."""


def make_lab(root: Path, kind: str) -> None:
    """A fresh sample lab whose proposer is `kind`; two proposals wait at a time, so that a sweep soon sees how others went."""
    problem = set_up(root)
    if problem:
        raise SystemExit(problem)
    path = root / "cockpit.toml"
    text = path.read_text("utf-8")
    changes = {'kind = "recording"': f'kind = "{kind}"', "queue = 6": "queue = 2", 'mode = "fast"': 'mode = "fixed"'}
    changes['compare = "flops"'] = (
        'compare = "tokens"'  # else the trunk runs at another length for one arm and not the other
    )
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, "utf-8")
    subprocess.run(["git", "-C", str(root), "commit", "-q", "--allow-empty", "-am", f"Propose by {kind}"], check=True)


def campaign(root: Path, kind: str, budget: int) -> None:
    """Run experiments until no further one fits into `budget` shards, the trunk's own left out."""
    make_lab(root, kind)
    with attached(root) as session:
        drive(session, lambda rows, phase: advance(session, rows, phase, kind, budget))
        session.call("shutdown")
    wait_down(root)


def advance(session: Session, rows: Rows, phase: str, kind: str, budget: int) -> tuple[str, bool]:
    """Approve the next proposal if there is room for it; how things stand, and whether this is the end."""
    seeds = next((len(row["seeds"]) for row in rows if row["kind"] == "lab"), 0)
    mine = experiments(rows)
    names = {row["id"] for row in mine}
    shards = [row for row in rows if row["kind"] == "shard" and row["experiment"] in names and not row.get("smoke")]
    going = [row for row in mine if not is_settled(row)]
    owed = sum(max(0, seeds - sum(shard["experiment"] == row["id"] for shard in shards)) for row in going)
    room, left = seeds > 0 and len(shards) + owed + seeds <= budget, waiting(rows)
    if room and left and len(going) < 2:
        approve(session, left[0], "one arm of a comparison of proposers", POLICY)
    dry = not left and not going and phase == "idle"
    text = f"{kind}: {len(mine) - len(going)} experiments settled, {len(shards)} of {budget} shards begun"
    return text, not going and (dry or (seeds > 0 and not room))


def both(histories: dict[str, Path]) -> duckdb.DuckDBPyConnection:
    """A database whose tables are the rows of all these histories, each with its lab's name before its ids."""
    con = duckdb.connect()
    for arm, path in histories.items():
        con.execute(f"ATTACH '{path}' AS {arm} (READ_ONLY)")
    for table in ("proposals", "experiments", "shards", "calls"):
        parts = []
        for arm in histories:
            columns = {row[0] for row in con.execute(f"DESCRIBE {arm}.{table}").fetchall()}
            renamed = ", ".join(f"'{arm}:' || {name} AS {name}" for name in sorted(columns & NAMES))
            parts.append(f"SELECT * REPLACE ({renamed}) FROM {arm}.{table}")
        con.execute(f"CREATE TABLE {table} AS {' UNION ALL '.join(parts)}")
    return con


def trunks(con: duckdb.DuckDBPyConnection) -> list[tuple[Any, ...]]:
    """The metric of each lab's trunk, seed by seed: both arms are compared with the same numbers, or this shows that not."""
    return con.execute(
        "SELECT split_part(experiment, ':', 1) AS lab, list(metric ORDER BY seed) FROM shards "
        "WHERE experiment LIKE '%:trunk-%' AND outcome = 'finished' GROUP BY lab ORDER BY lab"
    ).fetchall()


def table(con: duckdb.DuckDBPyConnection, sql: str) -> str:
    """The answer, turned: one line a column, one column a row, as Markdown."""
    found = con.execute(sql)
    names = [each[0] for each in found.description or ()]
    rows = found.fetchall()
    lines = [[name, *(shown(row[n]) for row in rows)] for n, name in enumerate(names)]
    head, *body = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([head, "|---" * (len(rows) + 1) + "|", *body])


def shown(value: Any) -> str:
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--shards", type=int, default=30, help="how many each proposer may use (30)")
    parser.add_argument("--keep", type=Path, help="where the two labs are made and kept; left out: nowhere")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cockpit-proposers-") as scratch:
        place = args.keep or Path(scratch)
        for arm in ARMS:
            campaign(place / arm, arm, args.shards)
        con = both({arm: state_dir(place / arm).history for arm in ARMS})
        for lab, metrics in trunks(con):
            print(f"trunk of {lab}: {metrics}")
        print(table(con, (ROOT / "queries" / "proposers.sql").read_text("utf-8")))


if __name__ == "__main__":
    main()
