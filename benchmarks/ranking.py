"""Times ranking runs: 10,000 runs with 50 million points from their tallies beside SQLite, the leaderboard, and mlflow.

    python benchmarks/ranking.py [--quick] [--repeat 7]

The question: of every run its final metric and place on its board, with mean and standard deviation over the seeds of its
experiment and the difference to the parent's mean. It is asked as `cockpit snapshot` lets any program ask: of a copy,
read-only, on as many threads as DuckDB takes by itself, into Arrow. Beside it stands the engine's own connection, which
keeps to one thread, since the cores belong to the shards. Bars: 100 ms and 4 times SQLite (which has the same tallies in
tables with primary keys and indexes; points, which neither reads for this, it is spared); 100 ms for the leaderboard of
10,000 experiments; 10 times mlflow's `search_runs` over 1,000 runs, where mlflow is installed. Medians of repeats that
take turns. Exits 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import duckdb

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from engine.history.store import Store

warnings.filterwarnings("ignore", message="Arrow output on a DB-API result")
MOST_S, TIMES_SQLITE, TIMES_MLFLOW = 0.1, 4.0, 10.0
SEEDS = 4
NAMES = ("loss", "val_bpb", "grad_norm", "lr", "tokens_per_s", "mfu", *(f"norm_{layer}" for layer in range(14)))

RANKING = """
WITH finals AS (
    SELECT s.id, s.board, s.experiment, m.last AS final
    FROM summaries m JOIN shards s ON s.id = m.shard
    WHERE m.metric = 'val_bpb' AND {finite}
), means AS (
    SELECT experiment, avg(final) AS mean, {sd} AS sd, count(*) AS seeds FROM finals GROUP BY experiment
), gains AS (
    SELECT m.experiment, m.mean, m.sd, m.seeds, p.mean - m.mean AS gain
    FROM means m JOIN experiments e ON e.id = m.experiment LEFT JOIN means p ON p.experiment = e.parent
)
SELECT rank() OVER (PARTITION BY f.board ORDER BY f.final) AS place, f.id, f.final, g.mean, g.sd, g.seeds, g.gain
FROM finals f JOIN gains g ON g.experiment = f.experiment
"""
DUCKDB = RANKING.format(finite="isfinite(m.last)", sd="stddev_samp(final)")
SQLITE = RANKING.format(
    finite="abs(m.last) < 9e999",
    sd="sqrt(max(0, sum(final * final) - count(*) * avg(final) * avg(final)) / (count(*) - 1))",
)
COPIED = {
    "experiments": "id TEXT PRIMARY KEY, parent TEXT, role TEXT, state TEXT, hypothesis TEXT, verdict TEXT, effect REAL",
    "shards": "id TEXT PRIMARY KEY, experiment TEXT, seed INTEGER, rung TEXT, outcome TEXT, metric REAL, board TEXT",
    "summaries": "shard TEXT, metric TEXT, last REAL, last_step INTEGER, min REAL, count INTEGER, nonfinite INTEGER, "
    "PRIMARY KEY (shard, metric)",
}
LEADERBOARD = "SELECT * FROM leaderboard ORDER BY board_place, rank LIMIT 50"


def fill(store: Store, experiments: int, points: int) -> None:
    """A history of so many experiments with four seeds each, `points` points a run and its tallies, made by SQL."""
    con = store._con
    runs, steps = experiments * SEEDS, max(1, points // len(NAMES))
    names = str(list(NAMES))
    con.execute(
        "INSERT INTO lab (id, metric, direction, rungs) VALUES ('lab', 'val_bpb', 'min', ['screen']);"
        f"INSERT INTO proposals (id, proposer) SELECT format('p{{:05d}}', i), 'sweep' FROM range({experiments}) r(i);"
        "INSERT INTO experiments (id, seq, role, state, hypothesis, proposal, parent, rung, verdict, effect, created) "
        "SELECT format('{:05d}', i), i, 'experiment', 'judged', 'idea ' || i, format('p{:05d}', i), "
        "format('{:05d}', i // 2), 'screen', ['solid', 'not-solid', 'harmful', 'undecided'][1 + i % 4], random() - 0.5, i "
        f"FROM range({experiments}) r(i);"
        "INSERT INTO shards (id, seq, experiment, seed, rung, attempt, outcome, metric, smoke, canary, fresh, started, ended, "
        "setup, metric_of, budget, board, contended) "
        "SELECT format('{:05d}.screen.s{}.a1', i // 4, i % 4), i, format('{:05d}', i // 4), i % 4, 'screen', 1, 'finished', "
        "3 + random(), false, false, false, i, i + 300, 'a' || (i // 20000), 'val_bpb', '300', "
        f"'val_bpb/screen/300/a' || (i // 20000), false FROM range({runs}) r(i);"
    )
    con.execute(
        f"INSERT INTO points SELECT s.id, unnest({names}), t.step, 1.79e9 + t.step, random() "
        f"FROM shards s, range({steps}) t(step)"
    )
    con.execute(
        f"INSERT INTO summaries SELECT id, unnest({names}), 3 + random(), {steps} - 1, 2.5, {steps}, 0 FROM shards"
    )
    store.checkpoint()


def copied(store: Store, path: Path) -> sqlite3.Connection:
    """The tables that the ranking reads, in SQLite."""
    con = sqlite3.connect(path)
    for table, columns in COPIED.items():
        con.execute(f"CREATE TABLE {table} ({columns})")
        names = ", ".join(each.split()[0] for each in columns.split(", PRIMARY")[0].split(", "))
        rows = store._con.execute(f"SELECT {names} FROM {table}").fetchall()
        con.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)
    con.execute("CREATE INDEX of_experiment ON shards (experiment)")
    con.execute("CREATE INDEX of_metric ON summaries (metric)")
    con.commit()
    con.execute("ANALYZE")
    return con


def medians(repeat: int, *asked: Callable[[], Any]) -> list[float]:
    """Median seconds of each question, asked in turn; the first turn does not count."""
    took: list[list[float]] = [[] for _ in asked]
    for turn in range(repeat + 1):
        for times, ask in zip(took, asked, strict=True):
            began = time.perf_counter()
            ask()
            if turn:
                times.append(time.perf_counter() - began)
    return [statistics.median(times) for times in took]


def ranking(place: Path, points: int, repeat: int) -> bool:
    """10,000 runs beside SQLite; whether the bars were met by a copy that any program may read."""
    with closing(Store.open(place / "runs.duckdb")) as store:
        fill(store, 10_000 // SEEDS, points)
        with closing(copied(store, place / "runs.sqlite")) as sqlite:
            store.checkpoint()
            shutil.copyfile(store.path, place / "copy.duckdb")  # its lock is gone then: nobody else is after it here
            with duckdb.connect(str(place / "copy.duckdb"), read_only=True) as copy:
                mine, others = copy.execute(DUCKDB).fetchall(), sqlite.execute(SQLITE).fetchall()
                assert sorted(row[:3] for row in mine) == sorted(row[:3] for row in others), "they disagree"
                quick, own, slow = medians(
                    repeat,
                    lambda: copy.execute(DUCKDB).to_arrow_table(),
                    lambda: store._con.execute(DUCKDB).to_arrow_table(),
                    lambda: sqlite.execute(SQLITE).fetchall(),
                )
        count = store._con.execute("SELECT count(*) FROM points").fetchall()[0][0]
    print(f"10,000 runs, {count:,} points: {1000 * quick:.1f} ms (bar {1000 * MOST_S:.0f}),", end=" ")
    print(f"on the engine's one thread {1000 * own:.1f}, SQLite {1000 * slow:.1f}:", end=" ")
    print(f"{slow / quick:.1f} and {slow / own:.1f} times (bar {TIMES_SQLITE:.0f})")
    return quick <= MOST_S and slow / quick >= TIMES_SQLITE


def leaderboard(place: Path, repeat: int) -> bool:
    """The leaderboard of 10,000 experiments with four runs each."""
    with closing(Store.open(place / "board.duckdb")) as store:
        fill(store, 10_000, len(NAMES))
        view, method = medians(repeat, lambda: store._con.execute(LEADERBOARD).fetchall(), lambda: store.rank(50))
    print(
        f"leaderboard of 10,000 experiments: {1000 * view:.1f} ms, as the engine's `rank` {1000 * method:.1f} ms",
        end=" ",
    )
    print(f"(bar {1000 * MOST_S:.0f})")
    return max(view, method) <= MOST_S


def beside_mlflow(place: Path, repeat: int) -> bool:
    """1,000 runs ordered by their metric, by mlflow over SQLite; True where it is not installed."""
    try:
        logging.disable(logging.WARNING)
        os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
        import mlflow  # type: ignore[import-not-found, unused-ignore]
        from mlflow.entities import Metric, Param  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        print("mlflow: not installed")
        return True
    client = mlflow.MlflowClient(f"sqlite:///{place / 'mlflow.db'}")
    experiment = client.create_experiment("lab")
    for number in range(1_000):
        run = client.create_run(experiment).info.run_id
        measured = [Metric(name, 3 + number % 97 / 100, 0, 0) for name in NAMES]
        client.log_batch(run, measured, [Param("seed", str(number % SEEDS))])
        client.set_terminated(run)

    def theirs() -> int:
        return len(client.search_runs([experiment], order_by=["metrics.val_bpb ASC"], max_results=1_000))

    with closing(Store.open(place / "thousand.duckdb")) as store:
        fill(store, 1_000 // SEEDS, 100 * len(NAMES))
        quick, slow = medians(repeat, lambda: store._con.execute(DUCKDB).fetchall(), theirs)
    print(f"1,000 runs: {1000 * quick:.1f} ms, mlflow {mlflow.__version__} search_runs {1000 * slow:.1f} ms:", end=" ")
    print(f"{slow / quick:.0f} times (bar {TIMES_MLFLOW:.0f})")
    return slow / quick >= TIMES_MLFLOW


def main() -> int:
    """Print the figures, each beside its bar."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--quick", action="store_true", help="a tenth of the points")
    words.add_argument("--repeat", type=int, default=7)
    given = words.parse_args()
    with tempfile.TemporaryDirectory(prefix="ranking-") as name:
        place = Path(name)
        good = [ranking(place, 500 if given.quick else 5_000, given.repeat), leaderboard(place, given.repeat)]
        good.append(beside_mlflow(place, given.repeat))
    return 0 if all(good) else 1


if __name__ == "__main__":
    code = main()
    with suppress(BrokenPipeError):
        sys.stdout.flush()
    os._exit(code)  # the database's binding complains of its own at an orderly end
