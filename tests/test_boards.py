"""Only what can be compared is ranked together: a researcher changes the lab or the budget, and asks the tables."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from engine.history import database, migrations
from engine.history.database import SCHEMA
from engine.history.store import Store
from engine.types import Row
from tests.history_samples import (
    SOLID,
    T0,
    event,
    experiment,
    finding,
    lab,
    losses,
    shard,
    small_history,
    trunk,
    verdict,
    verdict_event,
)

OLD_SCHEMAS = {version: Path(__file__).parent / "golden" / f"history-schema-{version}.sql" for version in (10, 11)}
STARTED = event(1, "engine.started", pid=1, host="lab1", boot="b", version="0.1.0")
LOADED = event(2, "config.loaded", config="c" * 64, lab={"name": "nanolm", "metric": "val_bpb", "direction": "min"})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.duckdb"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    made = Store.open(path)
    yield made
    made.close()


def ask(store: Store, sql: str) -> list[tuple[Any, ...]]:
    return store._con.execute(sql).fetchall()


def noted(n: int, setup: str, rung: str = "screen", budget: str = "300", **changes: str) -> dict[str, Any]:
    """The conditions that shards of `setup` run under."""
    what = {"metric": "val_bpb", "direction": "min", "data": "d1", "evaluation": "e1", "python": "3.11.7"}
    what |= {"torch": "2.6.0", "gpu": "", "host": "lab1"} | changes
    return event(n, "setup.noted", setup=setup, rung=rung, budget=budget, **what)


def intended(n: int, row: Any, setup: str) -> dict[str, Any]:
    """The event with which the shard of `row` began."""
    return event(n, "shard.intended", shard=row["id"], experiment=row["experiment"], rung=row["rung"], setup=setup)


def two_setups() -> tuple[list[Row], list[dict[str, Any]]]:
    """The lab was changed after the first experiment: the second one and the trunk ran under a setup of their own."""
    old, new = "a" * 16, "b" * 16
    runs = [shard("trunk-1", 0, 2.0), shard("0001", 0, 1.9), shard("trunk-1", 0, 1.5, attempt=2), shard("0002", 0, 1.4)]
    events = [STARTED, LOADED, noted(3, old)]
    events += [intended(4, runs[0], old), intended(5, runs[1], old), noted(6, new, budget="600", torch="2.7.0")]
    events += [intended(7, runs[2], new), intended(8, runs[3], new)]
    rows: list[Row] = [
        lab(),
        trunk(),
        experiment(1, verdict("solid", 0.1)),
        experiment(2, verdict("solid", 0.05)),
        *runs,
    ]
    return rows, events


def test_a_changed_lab_starts_a_board_of_its_own(store: Store) -> None:
    rows, events = two_setups()
    store.index(rows, events, 8)
    assert [(each["id"], each["board"]) for each in store.rank()] == [
        ("0002", "val_bpb/screen/600/bbbbbbbb/" + environment_of(store, "0002")),
        ("0001", "val_bpb/screen/300/aaaaaaaa/" + environment_of(store, "0001")),
    ]
    assert ask(store, "SELECT DISTINCT rank FROM leaderboard") == [(1,)]
    columns = "metric, direction, budget, experiments, judged, solid, best"
    assert ask(store, f"SELECT {columns} FROM comparable ORDER BY board_place") == [
        ("val_bpb", "min", "600", 1, 1, 1, "0002"),
        ("val_bpb", "min", "300", 1, 1, 1, "0001"),
    ]


def environment_of(store: Store, experiment: str) -> str:
    ((board,),) = ask(store, f"SELECT DISTINCT board FROM shards WHERE experiment = '{experiment}'")
    return str(board).rpartition("/")[2]


def test_a_run_is_set_against_the_trunk_under_the_same_setup_alone(store: Store) -> None:
    rows, events = two_setups()
    store.index(rows, events, 8)
    found = ask(store, "SELECT experiment, trunk_metric FROM runs WHERE role = 'experiment' ORDER BY experiment")
    assert found == [("0001", 2.0), ("0002", 1.5)]
    assert ask(store, "SELECT setup, metric FROM finals WHERE experiment = 'trunk-1' ORDER BY setup") == [
        ("a" * 16, 2.0),
        ("b" * 16, 1.5),
    ]


def test_environments_say_where_and_with_what_shards_ran(store: Store) -> None:
    rows, events = two_setups()
    later = [{**row, "started": T0 + 20} if row["kind"] == "shard" else row for row in rows]
    store.index(later, events, 8)  # type: ignore[arg-type]
    found = ask(store, "SELECT setup, host, engine, python, torch, data, shards FROM environments ORDER BY setup")
    assert found == [
        ("a" * 16, "lab1", "0.1.0", "3.11.7", "2.6.0", "d1", 2),
        ("b" * 16, "lab1", "0.1.0", "3.11.7", "2.7.0", "d1", 2),
    ]


def test_a_shard_keeps_what_it_was_started_with_however_often_its_row_changes(path: Path) -> None:
    """The engine is started anew, by a later version, while the shard runs; the next one starts under that."""
    running, nxt = shard("0001", 0, None, state="running", outcome=None, seq=5), shard("0001", 1, 2.0, seq=8)
    with_keys = "SELECT seed, setup, host, engine, metric_of, budget, metric FROM shards ORDER BY seed"
    store = Store.open(path)
    store.index([running], [STARTED, LOADED, noted(3, "s1"), intended(4, running, "s1"), event(5)], 5)
    store.close()
    store = Store.open(path)
    again = event(6, "engine.started", pid=2, host="lab1", boot="b", version="0.2.0")
    ended = {**running, "metric": 1.5, "seq": 8}
    store.index([ended, nxt], [again, intended(7, nxt, "s1"), event(8)], 8)  # type: ignore[list-item]
    assert ask(store, with_keys) == [
        (0, "s1", "lab1", "0.1.0", "val_bpb", "300", 1.5),
        (1, "s1", "lab1", "0.2.0", "val_bpb", "300", 2.0),
    ]
    store.close()


def test_a_contended_run_is_counted_on_the_board(store: Store) -> None:
    run = shard("0001", 0, 1.9)
    events = [STARTED, LOADED, noted(3, "s1"), intended(4, run, "s1")]
    store.index([lab(), experiment(1, SOLID), run], events, 4)
    assert ask(store, "SELECT contended FROM leaderboard") == [(0,)]
    told = event(5, "finding.noted", finding="f1", about=run["id"], rule="contended", severity="note", sentence="slow")
    store.index([finding(1, run["id"])], [told], 5)
    assert ask(store, "SELECT contended FROM leaderboard") == [(1,)]
    store.index([{**run, "seq": 70}], [event(6)], 6)  # type: ignore[list-item]
    assert ask(store, "SELECT contended FROM shards") == [(True,)]


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf, None])
def test_an_effect_that_is_no_number_is_never_first(store: Store, broken: float | None) -> None:
    rows: list[Row] = [experiment(1, verdict("solid", broken)), experiment(2, verdict("solid", 0.01))]
    store.index(rows, [], 0)
    assert [each["id"] for each in store.rank()] == ["0002", "0001"]


def test_an_experiment_that_has_run_nothing_stands_on_the_board_it_will_run_on(store: Store) -> None:
    run = shard("0001", 0, 1.9)
    events = [STARTED, LOADED, noted(3, "s1"), intended(4, run, "s1")]
    store.index([lab(), experiment(1, SOLID), experiment(2, state="queued"), run], events, 4)
    assert [(each["id"], each["board"] == store.rank()[0]["board"]) for each in store.rank()] == [
        ("0001", True),
        ("0002", True),
    ]


def test_claims_stand_with_experiments_and_with_every_verdict(store: Store) -> None:
    rows: list[Row] = [experiment(1, SOLID, claims="simplification"), experiment(2, SOLID)]
    store.index(rows, [verdict_event(1, "0001", SOLID), verdict_event(2, "0002", SOLID)], 2)
    for table in ("experiments ORDER BY id", "verdicts ORDER BY event", "leaderboard ORDER BY experiment"):
        assert ask(store, f"SELECT claim, control FROM {table}") == [("simplification", False), ("gain", False)]


def test_the_larger_rung_comes_first_and_is_ranked_by_itself(store: Store) -> None:
    both = lab() | {"rungs": ["screen", "confirm"]}
    confirmed = verdict("solid", 0.02) | {"rung": "confirm"}
    rows = [both, experiment(1, SOLID), experiment(2, SOLID), experiment(3, confirmed, rung="confirm")]
    store.index(rows, [], 0)  # type: ignore[arg-type]
    found = ask(store, "SELECT experiment, rung, rank, board_place FROM leaderboard ORDER BY board_place, rank")
    assert found == [("0003", "confirm", 1, 1), ("0001", "screen", 1, 2), ("0002", "screen", 2, 2)]


# --- a history of an earlier version


def old_history(path: Path, version: int = 10) -> None:
    """A history as that version wrote it: points, tallies and offsets, and rows of the ledger."""
    config = database._CONFIG
    con = duckdb.connect(str(path), config=config)
    con.execute(OLD_SCHEMAS[version].read_text(encoding="utf-8"))
    con.execute(f"INSERT INTO meta VALUES ('schema', {version}), ('indexed', 7)")
    con.execute("INSERT INTO points SELECT '0001.screen.s0.a1', 'loss', i, NULL, 3 - i / 1000 FROM range(1000) r(i)")
    con.execute("INSERT INTO points VALUES ('0001.screen.s0.a1', 'loss', 1000, NULL, 'NaN')")
    con.execute("INSERT INTO summaries VALUES ('0001.screen.s0.a1', 'loss', 'NaN', 1000, 2.001, 1001, 1)")
    con.execute("INSERT INTO offsets VALUES ('0001.screen.s0.a1', 10010, 2)")
    con.execute("INSERT INTO shard_facts VALUES ('0001.screen.s0.a1', 'device', NULL, 'cpu')")
    con.execute("INSERT INTO experiments (id, seq, role, verdict) VALUES ('0001', 3, 'experiment', 'solid')")
    con.execute("INSERT INTO events VALUES (7, 1.0, 'note', '{}')")
    con.close()


@pytest.mark.parametrize("version", OLD_SCHEMAS)
def test_a_history_of_an_earlier_version_keeps_its_points_and_is_indexed_again(
    path: Path, tmp_path: Path, version: int
) -> None:
    old_history(path, version)
    store = Store.open(path)
    assert (store.recovered, store.indexed) == (None, 0)
    assert store.offsets() == {"0001.screen.s0.a1": 10010}
    assert store.facts("0001.screen.s0.a1") == {"device": "cpu"}
    assert math.isnan(store.latest("0001.screen.s0.a1")["loss"][1])
    assert store.append([losses("0001.screen.s0.a1", [1.5], 10010, 1001)]) == ()
    assert ask(store, "SELECT count(*), count(*) FILTER (isnan(value)), min(value) FROM points") == [(1002, 1, 1.5)]
    assert ask(store, "SELECT last, last_step, min, count, nonfinite FROM summaries") == [(1.5, 1001, 1.5, 1002, 1)]
    assert ask(store, "SELECT garbage FROM offsets") == [(2,)]
    rows, events = small_history()
    store.index(rows, events, 7)
    fresh = Store.open(tmp_path / "fresh.duckdb")
    fresh.index(rows, events, 7)
    measured = {"points", "summaries", "shard_facts", "offsets"}
    assert {table: each for table, each in store.digest().items() if table not in measured} == {
        table: each for table, each in fresh.digest().items() if table not in measured
    }
    assert ask(store, "SELECT number FROM meta WHERE key = 'schema'") == [(SCHEMA,)]
    store.close()
    fresh.close()
    again = Store.open(path)
    assert (again.recovered, again.indexed) == (None, 7)
    again.close()


def test_a_version_with_no_way_from_it_is_set_aside(path: Path) -> None:
    old_history(path)
    with duckdb.connect(str(path)) as con:
        con.execute("UPDATE meta SET number = 9 WHERE key = 'schema'")
    store = Store.open(path)
    assert "another version" in str(store.recovered)
    assert store.offsets() == {}
    assert len(list(path.parent.glob("*.damaged-*"))) == 1
    store.close()


def test_a_step_that_fails_leaves_the_history_as_it_was(path: Path) -> None:
    old_history(path)

    def second(con: duckdb.DuckDBPyConnection) -> None:
        con.execute("DELETE FROM points")
        con.execute("SELECT error('no room')")

    with duckdb.connect(str(path)) as con:
        with pytest.raises(duckdb.Error, match="no room"):
            migrations.migrate(con, 10, 12, {10: lambda con: None, 11: second})
        assert con.execute("SELECT number FROM meta WHERE key = 'schema'").fetchone() == (11,)
        assert con.execute("SELECT count(*) FROM points").fetchone() == (1001,)
        assert not migrations.migrate(con, 12, 11)


def test_tables_that_the_ledger_does_not_fill_outlive_a_rebuild(path: Path) -> None:
    store = Store.open(path)
    ask(store, "CREATE TABLE mine (a BIGINT)")
    store.clear()
    assert ask(store, "SELECT count(*) FROM mine") == [(0,)]
    store.close()
