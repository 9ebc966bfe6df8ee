"""Hostile SQL against a real engine: no file may be touched, the engine stays alive, every statement ends in time.

    python benchmarks/hostile_sql.py [--deadline 2] [--only WORD]

Each statement of `statements()` goes through the engine's socket twice, once as `sql` and once as `sql_open`. Watched: a
directory of bait files and the lab itself (names, sizes, times, hashes, before and after each statement), whether the engine
answers `status` right after, how long each statement took (its deadline and 0.5 s more are allowed), and the address space of
the processes that ran them (VmPeak, Linux). Prints a short table; exit code 1 on a miss.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cockpit.attach import Session, attached
from engine.rpc import RpcError

SLACK_S = 0.5
MOST_BYTES = 2_000_000_000
LAB = """\
[lab]
name = "bait"
command = ["{python}", "train.py", "{seed}", "{budget}", "{metrics}"]
editable = ["train.py"]

[metric]
name = "loss"
source = "jsonl"

[rungs.screen]
budget = 1
timeout = "1m"
"""

FILES = """
SELECT * FROM read_text('{bait}/secret.txt')
SELECT * FROM read_blob('{bait}/secret.txt')
SELECT * FROM read_csv('{bait}/table.csv')
SELECT * FROM read_csv_auto('{bait}/*.csv')
SELECT * FROM read_json('{bait}/rows.json')
SELECT * FROM read_json_auto('{bait}/rows.json')
SELECT * FROM read_ndjson('{bait}/rows.json')
SELECT * FROM read_parquet('{bait}/x.parquet')
SELECT * FROM parquet_scan('{bait}/x.parquet')
SELECT * FROM parquet_metadata('{bait}/x.parquet')
SELECT * FROM glob('{bait}/*')
SELECT * FROM glob('/**')
SELECT * FROM sniff_csv('{bait}/table.csv')
SELECT * FROM '{bait}/table.csv'
FROM '{bait}/rows.json'
FROM "{bait}/table.csv"
SELECT * FROM read_text('/proc/self/environ')
SELECT * FROM read_text('/etc/passwd')
SELECT * FROM read_text('{lab}/.cockpit/engine.lock')
SELECT * FROM read_duckdb('{lab}/.cockpit/history.duckdb')
SELECT * FROM query('SELECT * FROM read_text(''{bait}/secret.txt'')')
SELECT * FROM query_table('{bait}/table.csv')
WITH x AS (SELECT * FROM read_text('{bait}/secret.txt')) SELECT count(*) FROM x
SELECT (SELECT content FROM read_text('{bait}/secret.txt'))
EXPLAIN SELECT * FROM read_csv('{bait}/table.csv')
EXPLAIN ANALYZE SELECT * FROM read_csv('{bait}/table.csv')
COPY shards TO '{bait}/out.csv'
COPY (SELECT 42) TO '{bait}/secret.txt'
COPY shards FROM '{bait}/table.csv'
EXPLAIN COPY shards TO '{bait}/out.csv'
EXPLAIN ANALYZE COPY (SELECT 1) TO '{bait}/out.csv'
EXPORT DATABASE '{bait}/out'
IMPORT DATABASE '{bait}'
ATTACH '{bait}/other.duckdb'
ATTACH '{lab}/.cockpit/history.duckdb' AS h (READ_WRITE)
ATTACH ':memory:' AS m
DETACH history
EXPLAIN ANALYZE ATTACH '{bait}/other.duckdb'
SELECT * FROM sqlite_scan('{bait}/secret.txt', 't')
SELECT * FROM enable_logging(storage = 'file', storage_path = '{bait}/log')
"""
NETWORK = """
SELECT * FROM read_csv('http://127.0.0.1:9/x.csv')
SELECT * FROM read_parquet('https://example.com/x.parquet')
SELECT * FROM 's3://bucket/x.parquet'
ATTACH 'https://example.com/x.duckdb'
INSTALL httpfs
INSTALL httpfs FROM 'http://127.0.0.1:9'
LOAD httpfs
LOAD '{bait}/evil.duckdb_extension'
UPDATE EXTENSIONS
CREATE SECRET s (TYPE s3, KEY_ID 'a', SECRET 'b')
CREATE PERSISTENT SECRET s (TYPE http, BEARER_TOKEN 'x')
SELECT * FROM duckdb_secrets()
SELECT * FROM which_secret('s3://x', 's3')
"""
CHANGES = """
SET memory_limit = '64GB'
SET enable_external_access = true
SET GLOBAL lock_configuration = false
RESET enable_external_access
RESET ALL
PRAGMA enable_external_access = true
PRAGMA database_list
PRAGMA import_database('{bait}')
EXPLAIN ANALYZE SET threads = 64
SET VARIABLE x = 1
CALL pragma_version()
CALL force_checkpoint()
USE memory
SELECT 1; DROP TABLE shards
SELECT 1;; COPY shards TO '{bait}/out.csv'
CREATE TEMP TABLE shards AS SELECT 42 AS metric
CREATE TABLE t AS SELECT 1
CREATE OR REPLACE TEMP VIEW leaderboard AS SELECT 1
CREATE TEMP MACRO count(x) AS 7
CREATE MACRO sum(x) AS TABLE SELECT 1
EXPLAIN ANALYZE CREATE TEMP TABLE shards AS SELECT 42 AS metric
EXPLAIN ANALYZE INSERT INTO events VALUES (1, 1, 'x', 'x')
CREATE SEQUENCE s
CREATE TYPE mood AS ENUM ('a')
INSERT INTO shards (id) VALUES ('x')
UPDATE shards SET metric = 0
DELETE FROM events
TRUNCATE events
DROP TABLE shards
ALTER TABLE shards ADD COLUMN x INTEGER
MERGE INTO shards USING (SELECT 'x' AS id) s ON shards.id = s.id WHEN NOT MATCHED THEN INSERT (id) VALUES ('x')
WITH gone AS (DELETE FROM shards RETURNING *) SELECT * FROM gone
CHECKPOINT
FORCE CHECKPOINT
VACUUM
ANALYZE
BEGIN
BEGIN TRANSACTION; DELETE FROM events; COMMIT
COMMIT
PREPARE q AS SELECT 1
EXECUTE q
DEALLOCATE q
PIVOT shards ON seed USING avg(metric)
COMMENT ON TABLE shards IS 'x'
SELECT nextval('s')
SELECT getenv('HOME')
"""
TRICKS = """
/* SELECT 1 */ COPY shards TO '{bait}/out.csv'
SELECT 1 -- \n; COPY shards TO '{bait}/out.csv'
SELECT 1 /* ; */ ; ATTACH '{bait}/o.duckdb'
SELECT\u00a0*\u00a0FROM\u00a0read_text('{bait}/secret.txt')
SELECT * FROM \u202eread_text('{bait}/secret.txt')
SELECT * FROM read\u200b_text('{bait}/secret.txt')
ＳＥＬＥＣＴ * FROM read_text('{bait}/secret.txt')
SELECT * FROM U&"\\0072ead_text"('{bait}/secret.txt')
SELECT * FROM "read_text"('{bait}/' || 'secret.txt')
SELECT $$; COPY shards TO '{bait}/out.csv'; $$
SELECT 'a\x00b'; COPY shards TO '{bait}/out.csv'
SELECT * FROM pandas_scan(1::POINTER)
SELECT * FROM python_arrow_scan(1::POINTER, 2::POINTER, 3::POINTER)
SELECT * FROM arrow_scan(1::POINTER, 2::POINTER, 3::POINTER)
SELECT * FROM request
SELECT * FROM sys.modules
SELECT chr(27) || ']52;c;aGk=' || chr(7) AS "\x1b[31m"
"""
BOMBS = """
SELECT length(repeat('x', 2000000000))
SELECT repeat(repeat('x', 1000000), 100000)
SELECT lpad('x', 2000000000, 'y')
SELECT levenshtein(repeat('x', 200000), repeat('y', 200000))
SELECT count(*) FROM (SELECT unnest(range(400000000)))
SELECT list_sort(range(500000000))[1]
SELECT list_reduce(range(100000000), lambda a, b: a + b)
SELECT list_aggregate(range(300000000), 'string_agg')
SELECT string_agg(repeat('x', 10000), '') FROM range(1000000)
SELECT list(range) FROM range(2000000000)
SELECT count(DISTINCT a.range::VARCHAR) FROM range(100000000) a
SELECT * FROM range(100000000000) ORDER BY hash(range)
SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE a.range * b.range % 7 = 3
SELECT max(a.range + b.range + c.range) FROM range(100000) a, range(100000) b, range(100000) c
WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r
WITH RECURSIVE r AS (SELECT 'x' AS s UNION ALL SELECT s || s FROM r) SELECT max(length(s)) FROM r
WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r, range(10)) SELECT * FROM r
SELECT regexp_matches(repeat('a', 5000000), '(a*)*(a*)*(a*)*b')
SELECT regexp_extract_all(repeat('ab', 50000000), '(a|b|ab)*?')
SELECT regexp_replace(repeat('x', 100000000), 'x', 'yyyyyyyyyy', 'g')
SELECT factorial(30000)
SELECT sum(range) OVER (ORDER BY range DESC ROWS BETWEEN 1000000 PRECEDING AND CURRENT ROW) FROM range(50000000)
SELECT json_structure('[' || repeat('[', 100000))
SELECT hex(repeat('x', 1000000000)::BLOB)
SELECT bit_count(repeat('1', 1000000000)::BIT)
SELECT array_agg(repeat('x', 100000)) FROM range(1000000)
SELECT printf('%1000000000d', 1)
SELECT format('{{:>1000000000}}', 1)
SELECT repeat('x', 60000) FROM range(10000000)
SELECT * FROM range(10000000000000)
"""


def statements() -> dict[str, list[str]]:
    """Kind of attack to statements; `{bait}` and `{lab}` stand for directories."""
    lines = {"files": FILES, "network": NETWORK, "changes": CHANGES, "tricks": TRICKS, "bombs": BOMBS}
    found = {kind: text.strip("\n").split("\n") for kind, text in lines.items()}
    found["tricks"] += [
        "SELECT " + "(" * 20_000 + "1" + ")" * 20_000,
        "SELECT " + "NOT " * 24_000 + "true",
        "SELECT '" + "x" * 99_000 + "'",
        "SELECT '" + "x" * 300_000 + "'",
        "SELECT " + "+".join(["1"] * 40_000),
        "SELECT " + ", ".join(f"{n} AS c{n}" for n in range(1_001)),
        "SELECT * FROM " + ", ".join(f"range(9) r{n}" for n in range(3_000)),
        "SELECT 1 " + "UNION ALL SELECT 1 " * 4_000,
        "SELECT " + "[" * 3_000 + "1" + "]" * 3_000,
        "WITH " + ", ".join(f"t{n} AS (SELECT * FROM {f't{n - 1}, t{n - 1} b' if n else 'range(9)'})" for n in range(30))
        + " SELECT count(*) FROM t29",
        "",
        ";;;",
        "-- nothing",
        "\x00",
    ]  # fmt: skip
    return found


@dataclass
class Score:
    """What came of one kind of statement."""

    ran: int = 0
    answered: int = 0
    refused: int = 0
    longest_s: float = 0.0
    misses: list[str] = field(default_factory=list)


def fingerprint(bait: Path, lab: Path) -> dict[str, str]:
    """Every file that is there, with its hash; of what the engine itself writes just now (index, log, copies) only names."""
    state = lab / ".cockpit"
    own = (state / "sql", state / "history.duckdb", state / "engine.")
    found = {}
    for path in sorted([*bait.rglob("*"), *lab.rglob("*")]):
        if any(f"{path}".startswith(f"{each}") for each in own):
            continue
        found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    return found


def settle(session: Session) -> None:
    """Launch nothing more, and wait until what runs has ended, so that the lab holds still."""
    session.call("pause")
    last, still = -1, 0
    while still < 10:
        status = session.call("status")
        still = still + 1 if status["running"] == 0 and status["events"] == last else 0
        last = status["events"]
        time.sleep(0.1)


class Watcher(threading.Thread):
    """The largest address space of any process that runs queries, looked at all the time."""

    def __init__(self, engine: int) -> None:
        super().__init__(daemon=True)
        self.engine = engine
        self.most = 0
        self.seen: set[int] = set()
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(0.02):
            for pid in children(self.engine):
                try:
                    if b"console_child\0serve" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                        continue
                    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                except OSError:
                    continue
                self.seen.add(pid)
                self.most = max([self.most, *(int(each.split()[1]) * 1024 for each in lines if "VmPeak" in each)])

    def end(self) -> None:
        self._done.set()
        self.join()


def children(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(each) for task in tasks for each in (task / "children").read_text().split()]
    except OSError:
        return []


def attack(session: Session, sql: str, deadline_s: float, *, held: bool) -> bool:
    """Whether the statement was answered (rather than refused)."""
    try:
        if held:
            answer = session.call("sql_open", text=sql, deadline_s=deadline_s)
            session.call("sql_close", result=answer["result"])
        else:
            session.call("sql", text=sql, limit=1000, deadline_s=deadline_s)
    except RpcError as error:
        if error.code < 0 or "Traceback" in error.message:
            raise
        return False
    return True


def make_bait(place: Path) -> None:
    place.mkdir()
    (place / "secret.txt").write_text("the secret\n")
    (place / "table.csv").write_text("a,b\n1,2\n")
    (place / "rows.json").write_text('{"a": 1}\n')
    (place / "x.parquet").write_bytes(b"PAR1" + bytes(64) + b"PAR1")
    (place / "schema.sql").write_text("CREATE TABLE t (a INTEGER);\n")


def make_lab(root: Path) -> None:
    root.mkdir()
    (root / "cockpit.toml").write_text(LAB)
    (root / "train.py").write_text('print("loss", 1.0)\n')
    for words in (("init", "-q"), ("add", "-A"), ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "b")):
        subprocess.run(["git", "-C", str(root), *words], check=True)


def play(root: Path, bait: Path, deadline_s: float, only: str = "") -> tuple[dict[str, Score], Watcher]:
    """Every statement twice; what came of them by kind, and what the processes used."""
    scores: dict[str, Score] = {}
    with attached(root) as session:
        settle(session)
        session.call("sql", text="SELECT 1")
        watcher = Watcher(session.hello["pid"])
        watcher.start()
        before = fingerprint(bait, root)
        for kind, sql in _chosen(only):
            score = scores.setdefault(kind, Score())
            sql = sql.replace("{bait}", str(bait)).replace("{lab}", str(root))
            for held in (False, True):
                began = time.monotonic()
                try:
                    answered = attack(session, sql, deadline_s, held=held)
                except Exception as error:  # the engine itself failed: that is what is looked for
                    score.misses.append(f"{error}: {sql[:80]!r}")
                    answered = False
                took = time.monotonic() - began
                score.ran, score.longest_s = score.ran + 1, max(score.longest_s, took)
                score.answered, score.refused = score.answered + answered, score.refused + (not answered)
                if took > deadline_s + SLACK_S:
                    score.misses.append(f"took {took:.2f} s: {sql[:80]!r}")
                if session.call("status")["engine"]["pid"] != session.hello["pid"]:
                    score.misses.append(f"the engine is another one now: {sql[:80]!r}")
                after = fingerprint(bait, root)
                if after != before:
                    changed = sorted(
                        name for name in after.keys() | before.keys() if after.get(name) != before.get(name)
                    )
                    score.misses.append(f"touched {', '.join(changed)}: {sql[:80]!r}")
                    before = after
        watcher.end()
    return scores, watcher


def _chosen(only: str) -> Iterator[tuple[str, str]]:
    for kind, found in statements().items():
        for sql in found:
            if only in (kind, "") or only in sql:
                yield kind, sql


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--deadline", type=float, default=2.0, help="seconds for each statement (default: 2)")
    parser.add_argument("--only", default="", help="only statements of this kind, or that hold this text")
    args = parser.parse_args()
    top = Path(tempfile.mkdtemp(prefix="hostile-"))
    os.environ["XDG_RUNTIME_DIR"] = str(top)
    bait, root = top / "bait", top / "lab"
    make_bait(bait)
    make_lab(root)
    try:
        scores, watcher = play(root, bait, args.deadline, args.only)
        with attached(root, start=False) as session:
            session.call("shutdown")
    finally:
        shutil.rmtree(top, ignore_errors=True)
    print(f"{'kind':10} {'runs':>5} {'answered':>9} {'refused':>8} {'longest':>9}  misses")
    for kind, score in scores.items():
        counts = f"{score.ran:5} {score.answered:9} {score.refused:8} {score.longest_s:7.2f} s"
        print(f"{kind:10} {counts}  {len(score.misses)}")
    misses = [each for score in scores.values() for each in score.misses]
    most = f"address space at most {watcher.most / 1e9:.2f} GB in {len(watcher.seen)} processes"
    print(f"{sum(score.ran for score in scores.values())} statements, deadline {args.deadline:g} s; {most}")
    if watcher.most > MOST_BYTES:
        misses.append(f"a process had {watcher.most / 1e9:.2f} GB of addresses")
    for each in misses:
        print("MISS", each)
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main())
