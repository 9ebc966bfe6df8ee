"""How long each shipped question takes on a long history: 10,000 experiments, 40,000 shards and 1.6 million points by default.

    python benchmarks/questions.py [--experiments 10000] [--twice]

`questions_history.sql` makes the rows straight in the tables, since only their number matters here. The slowest come first.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from engine.history.queries import load_all  # noqa: E402
from engine.history.store import Store  # noqa: E402


def history(path: Path, experiments: int) -> duckdb.DuckDBPyConnection:
    """A history of that many experiments at `path`, opened."""
    Store.open(path).close()
    con = duckdb.connect(str(path))
    for statement in duckdb.extract_statements(Path(__file__).with_name("questions_history.sql").read_text()):
        con.execute(statement, {"n": experiments} if statement.named_parameters else None)
    con.execute("CHECKPOINT")
    return con


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--experiments", type=int, default=10_000, help="how many (10000)")
    parser.add_argument("--twice", action="store_true", help="the second of two askings, when everything is in memory")
    args = parser.parse_args()
    examples: dict[str, Any] = {"shard": "000001.screen.s0.a1", "experiment": "000001"}
    with tempfile.TemporaryDirectory(prefix="cockpit-questions-") as scratch:
        con = history(Path(scratch) / "history.duckdb", args.experiments)
        con.execute("SET threads = 1")  # as the console's child has it
        counts = ", ".join(
            f"{con.table(name).count('*').fetchall()[0][0]:,} {name}" for name in ("experiments", "shards", "points")
        )
        print(counts)
        took: list[tuple[float, str, int]] = []
        for name, query in load_all([ROOT / "queries"]).items():
            given = query.bind({each.name: examples[each.name] for each in query.params if each.required})
            for _ in range(1 + args.twice):
                began = time.perf_counter()
                rows = con.execute(query.sql, given).fetchall()
                seconds = time.perf_counter() - began
            took.append((seconds, name, len(rows)))
        for seconds, name, count in sorted(took, reverse=True):
            print(f"{1000 * seconds:8.1f} ms  {name:<20} {count:>6} rows")


if __name__ == "__main__":
    main()
