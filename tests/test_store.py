"""A researcher's history survives kills, damage and doubled work, and a rebuilt one is the same to the last row."""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.history.database import SCHEMA, StoreDamaged, StoreError
from engine.history.store import Store
from tests.history_samples import (
    FLAT,
    SOLID,
    Batch,
    Point,
    event,
    experiment,
    lab,
    losses,
    proposal,
    shard,
    small_history,
    trunk,
    verdict,
    verdict_event,
)

ROOT = Path(__file__).parents[1]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.duckdb"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    made = Store.open(path)
    yield made
    made.close()


def ask(store: Store, sql: str) -> list[tuple[object, ...]]:
    return store._con.execute(sql).fetchall()


def filled(store: Store) -> Store:
    rows, events = small_history()
    store.index(rows, events, 7)
    return store


# --- indexing


def test_a_new_history_is_empty_and_says_so(store: Store) -> None:
    assert store.recovered is None
    assert store.indexed == 0
    assert store.rank() == []
    assert store.offsets() == {}
    assert store.curve(["0001.screen.s0.a1"], "loss") == {}


def test_the_ranking_puts_solid_first_and_broken_last(store: Store) -> None:
    best = filled(store).rank()
    assert [(each["id"], each["verdict"]) for each in best] == [
        ("0001", "solid"),
        ("0002", "not-solid"),
        ("0004", "harmful"),
        ("0003", "broken"),
    ]
    assert best[0]["interval"] == [0.08, 0.12]
    assert [each["metric"] for each in best[0]["shards"]] == pytest.approx([1.9, 2.0, 2.1])
    assert best[3]["interval"] is None
    assert [(each["seed"], each["outcome"], each["metric"]) for each in best[3]["shards"]] == [
        (0, "finished", 1.5),
        (1, "nonfinite", None),
        (2, "crashed", None),
    ]
    assert len(store.rank(2)) == 2


def test_evidence_and_cost_can_be_asked_for_wherever_a_verdict_stands(store: Store) -> None:
    weighed = verdict("solid", 0.1, 0.08, 0.12)
    weighed |= {"evidence": 31.0, "bar": 20.0, "sigma": 0.02, "mode": "fast", "shrunk": 0.09, "seconds": 30.0}
    rows, events = small_history()
    store.index([*rows, experiment(1, weighed)], [*events, verdict_event(8, "0001", weighed)], 8)
    columns = "evidence, bar, sigma, mode, shrunk"
    expected = (31.0, 20.0, 0.02, "fast", 0.09)
    for table, spent in (("experiments WHERE id", 30.0), ("verdicts WHERE event = 8 AND experiment", 30.0)):
        assert ask(store, f"SELECT {columns}, seconds FROM {table} = '0001'") == [(*expected, spent)]
    assert ask(store, f"SELECT {columns}, minutes FROM leaderboard WHERE experiment = '0001'") == [(*expected, 0.5)]
    assert ask(store, "SELECT evidence, seconds FROM verdicts WHERE event = 5") == [(None, None)]
    best = store.rank(1)[0]
    assert (best["evidence"], best["bar"], best["shrunk"], best["minutes"]) == (31.0, 20.0, 0.09, 0.5)


def test_mean_and_spread_are_over_the_seeds_that_finished(store: Store) -> None:
    ((mean, sd, seeds),) = ask(filled(store), "SELECT mean, sd, seeds FROM leaderboard WHERE experiment = '0001'")
    assert (mean, sd, seeds) == (pytest.approx(2.0), pytest.approx(0.1), 3)


def test_a_failed_shard_has_no_metric_and_no_gain(store: Store) -> None:
    found = ask(filled(store), "SELECT metric, gain FROM runs WHERE outcome != 'finished'")
    assert len(found) == 3
    assert set(found) == {(None, None)}


@pytest.mark.parametrize(("direction", "gain"), [("min", 0.1), ("max", -0.1)])
def test_gain_is_positive_when_better_in_the_labs_direction(store: Store, direction: str, gain: float) -> None:
    rows = [lab(direction), trunk(), experiment(1), shard("trunk-1", 0, 2.0), shard("0001", 0, 1.9)]
    store.index(rows, [event(1)], 1)
    assert ask(store, "SELECT gain FROM runs WHERE experiment = '0001'") == [(pytest.approx(gain),)]


def test_indexing_again_changes_nothing(store: Store) -> None:
    filled(store)
    before = store.digest()
    filled(store)
    rows, events = small_history()
    store.index(rows[:5], events[:3], 3)
    assert store.digest() == before
    assert store.indexed == 7


def test_a_newer_row_replaces_the_old_one_and_an_older_one_does_not(store: Store) -> None:
    store.index([experiment(1, seq=1)], [event(1)], 1)
    store.index([experiment(1, SOLID, seq=2)], [event(2)], 2)
    store.index([experiment(1, seq=1)], [], 2)
    assert ask(store, "SELECT verdict FROM experiments") == [("solid",)]


def test_every_verdict_on_the_way_is_kept(store: Store) -> None:
    found = ask(filled(store), "SELECT event, verdict, effect FROM verdicts WHERE experiment = '0001' ORDER BY event")
    assert found == [(3, "undecided", 0.1), (4, "solid", 0.1)]


def test_a_gap_in_the_events_is_refused_and_nothing_is_written(store: Store) -> None:
    store.index([], [event(1)], 1)
    before = store.digest()
    with pytest.raises(ValueError, match="events 2 to 3 are wanted and 3 to 3 given"):
        store.index([lab()], [event(3)], 3)
    with pytest.raises(ValueError, match="none given"):
        store.index([lab()], [], 2)
    assert store.digest() == before


def test_a_transaction_that_fails_half_way_leaves_no_trace(store: Store) -> None:
    before = store.digest()
    with pytest.raises(Exception, match="zero"):
        store.index([lab(), shard("0001", "zero", 1.0)], [event(1)], 1)  # type: ignore[arg-type]
    assert store.digest() == before
    store.index([lab()], [event(1)], 1)
    assert store.indexed == 1


def test_text_that_no_encoding_holds_is_kept_as_a_question_mark(store: Store) -> None:
    row = proposal(1, hypothesis="a\ud800b", mechanism="nul\0 and \x1b[31m and 'quotes'; DROP TABLE shards")
    store.index([row], [event(1, "note", text="\udfff é")], 1)
    assert ask(store, "SELECT hypothesis, mechanism FROM proposals") == [("a?b", row["mechanism"])]
    assert ask(store, "SELECT json_extract_string(data, 'text') FROM events") == [("? é",)]


# --- points


def test_points_come_back_as_they_were_written(store: Store) -> None:
    assert store.append([losses("a", [3.0, 2.5, 2.0], summary={"tokens": 300, "device": "cpu"})]) == ()
    assert store.curve(["a"], "loss") == {"a": ([0, 1, 2], [3.0, 2.5, 2.0])}
    assert store.metric_names("a") == ["loss"]
    assert store.latest("a") == {"loss": (2, 2.0)}
    assert store.facts("a") == {"tokens": 300.0, "device": "cpu"}
    assert store.offsets() == {"a": 30}
    assert ask(store, "SELECT min, count, nonfinite FROM summaries") == [(2.0, 3, 0)]


def test_a_batch_that_was_already_taken_is_refused_whole(store: Store) -> None:
    first = losses("a", [3.0, 2.5])
    store.append([first])
    before = store.digest()
    assert store.append([first]) == ("a",)
    assert store.append([losses("a", [1.0], start=30)]) == ("a",)  # a gap is no better than a repeat
    assert store.digest() == before


def test_the_points_of_each_shard_can_be_counted_against_its_file(store: Store) -> None:
    store.append([losses("a", [3.0, 2.5]), losses("b", [1.0]), Batch("c", offset=7, garbage=1)])
    assert store.point_counts() == {"a": (20, 2), "b": (10, 1), "c": (7, 0)}


def test_one_refused_batch_does_not_hold_up_the_others(store: Store) -> None:
    refused = store.append([losses("a", [3.0], start=5), losses("b", [1.0]), losses("b", [2.0], start=10, first=1)])
    assert refused == ("a",)
    assert store.offsets() == {"b": 20}
    assert store.latest("b") == {"loss": (1, 2.0)}


def test_garbage_is_counted_even_when_no_point_is_among_it(store: Store) -> None:
    store.append([Batch("a", start=0, offset=50, garbage=3)])
    store.append([Batch("a", start=50, offset=60, garbage=1)])
    assert ask(store, "SELECT shard, byte_offset, garbage FROM offsets") == [("a", 60, 4)]


def test_a_diverged_run_keeps_its_nan_and_its_curve_shows_the_hole(store: Store) -> None:
    store.append([losses("a", [3.0, math.nan, math.inf, 2.0, math.nan])])
    assert store.curve(["a"], "loss")["a"] == ([0, 1, 2, 3, 4], [3.0, None, None, 2.0, None])
    assert math.isnan(store.latest("a")["loss"][1])
    assert ask(store, "SELECT min, count, nonfinite FROM summaries") == [(2.0, 5, 3)]
    assert ask(store, "SELECT count(*) FROM points WHERE isnan(value)") == [(2,)]


def test_a_step_that_went_back_drops_nothing_and_the_later_value_is_drawn(store: Store) -> None:
    store.append([losses("a", [3.0, 2.0, 1.0])])
    store.append([losses("a", [2.5, 1.5], start=30, first=1)])
    assert store.curve(["a"], "loss")["a"] == ([0, 1, 2], [3.0, 2.5, 1.5])
    assert ask(store, "SELECT count(*) FROM points") == [(5,)]
    assert store.latest("a") == {"loss": (2, 1.5)}


def test_numbers_and_names_that_fit_no_column_do_not_stop_the_rest(store: Store) -> None:
    odd = [Point(0, None, {"lo\ud800ss": 10**400, "n": -(10**400)}), Point(2**70, None, {"loss": 1.0})]
    store.append([Batch("a", [*odd, Point(1, None, {"loss": 2.0})], {"big": 10**400}, 0, 30, garbage=1)])
    assert store.metric_names("a") == ["lo?ss", "loss", "n"]
    assert store.latest("a")["lo?ss"] == (0, math.inf)
    assert store.latest("a")["n"] == (0, -math.inf)
    assert store.latest("a")["loss"] == (1, 2.0)
    assert store.facts("a") == {"big": math.inf}
    assert ask(store, "SELECT garbage FROM offsets") == [(2,)]


def test_a_later_summary_wins_key_by_key(store: Store) -> None:
    store.append([Batch("a", summary={"steps": 300, "device": "cpu"}, offset=1)])
    store.append([Batch("a", summary={"device": "cuda", "steps": 400}, start=1, offset=2), Batch("b", offset=1)])
    assert store.facts("a") == {"steps": 400.0, "device": "cuda"}
    assert store.facts("b") == {}


def test_a_file_that_shrank_can_be_read_again_from_the_start(store: Store) -> None:
    store.append([losses("a", [3.0, 2.0]), losses("b", [1.0])])
    store.forget("a")
    assert store.offsets() == {"b": 10}
    assert store.append([losses("a", [9.0])]) == ()
    assert store.curve(["a", "b"], "loss") == {"a": ([0], [9.0]), "b": ([0], [1.0])}


def test_a_long_curve_is_thinned_but_keeps_its_spikes_its_holes_and_its_ends(store: Store) -> None:
    values = [3.0 - i / 10_000 for i in range(10_000)]
    values[4_321], values[7_777], values[1_234] = 50.0, -5.0, math.nan
    store.append([losses("a", values)])
    steps, thinned = store.curve(["a"], "loss", 200)["a"]
    assert len(steps) <= 200
    assert steps == sorted(set(steps))
    drawn = dict(zip(steps, thinned, strict=True))
    assert (drawn[4_321], drawn[7_777], drawn[1_234]) == (50.0, -5.0, None)
    assert (drawn[0], drawn[9_999]) == (values[0], values[9_999])


@pytest.fixture(scope="module")
def shared() -> Iterator[Store]:
    made = Store.open(Path(":memory:"))
    yield made
    made.close()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(width=32) | st.sampled_from([math.nan, math.inf]), min_size=1, max_size=60),
    st.integers(4, 20),
    st.randoms(use_true_random=False),
)
def test_thinning_never_invents_a_point(shared: Store, values: list[float], points: int, chance: random.Random) -> None:
    steps = sorted(chance.sample(range(1000), len(values)))
    written = [Point(step, None, {"loss": value}) for step, value in zip(steps, values, strict=True)]
    shared.forget("a")
    shared.append([Batch("a", written, offset=1)])
    got_steps, got = shared.curve(["a"], "loss", points)["a"]
    expected = {step: value if math.isfinite(value) else None for step, value in zip(steps, values, strict=True)}
    assert len(got_steps) <= points
    assert got_steps == sorted(got_steps)
    assert all(expected[step] == value for step, value in zip(got_steps, got, strict=True))
    assert {steps[0], steps[-1]} <= set(got_steps)
    if len(values) <= points:
        assert got_steps == steps


# --- rebuilding


def batches() -> list[Batch]:
    noise = random.Random(1)
    made = []
    for seed in range(3):
        for part in range(4):
            values = [noise.choice([noise.gauss(2, 1), math.nan]) for _ in range(25)]
            made.append(losses(f"0001.screen.s{seed}.a1", values, 250 * part, 25 * part, summary={"tokens": part}))
    return made


def test_a_rebuilt_history_equals_the_one_that_grew_live(store: Store, tmp_path: Path) -> None:
    rows, events = small_history()
    store.index(rows[:6], events[:2], 2)
    for batch in batches():
        store.append([batch])
    store.index([experiment(1, verdict("undecided", 0.1))], events[2:3], 3)
    store.index(rows[6:], events[3:], 7)
    rebuilt = Store.open(tmp_path / "again.duckdb")
    whole = batches()
    for seed in (2, 0, 1):  # other shards first, and larger batches
        rebuilt.append([batch for batch in whole if f".s{seed}." in batch.shard])
    rebuilt.index(rows, events, 7)
    assert rebuilt.digest() == store.digest()
    rebuilt.append([losses("0001.screen.s0.a1", [1.0], start=1000)])
    assert rebuilt.digest() != store.digest()
    rebuilt.close()


def test_clearing_and_filling_again_gives_the_same(store: Store) -> None:
    filled(store).append(batches())
    before = store.digest()
    store.clear()
    assert store.indexed == 0
    assert store.offsets() == {}
    filled(store).append(batches())
    assert store.digest() == before


def test_a_changed_value_changes_the_digest_of_its_table_alone(store: Store) -> None:
    before = filled(store).digest()
    store.index([experiment(2, FLAT | {"effect": 0.011}, seq=51)], [], 7)  # type: ignore[arg-type]
    changed = {table for table, digest in store.digest().items() if digest != before[table]}
    assert changed == {"experiments"}


# --- files


def test_a_history_is_there_after_closing(path: Path) -> None:
    store = filled(Store.open(path))
    store.append(batches())
    before = store.digest()
    store.close()
    again = Store.open(path)
    assert (again.recovered, again.indexed, again.digest()) == (None, 7, before)
    assert again.append([losses("0001.screen.s0.a1", [1.0])]) == ("0001.screen.s0.a1",)
    again.close()


@pytest.mark.parametrize("damage", ["header", "truncated", "not a database", "write-ahead log"])
def test_a_damaged_history_is_set_aside_and_an_empty_one_made(path: Path, damage: str) -> None:
    store = filled(Store.open(path))
    store.append(batches())
    if damage == "write-ahead log":
        content, wal = path.read_bytes(), Path(f"{path}.wal").read_bytes()
        store.close()
        path.write_bytes(content)
        Path(f"{path}.wal").write_bytes(wal[:200] + bytes([wal[200] ^ 0xFF]) + wal[201:])
    else:
        store.close()
        content = path.read_bytes()
        broken = {
            "header": content[:4096] + bytes(8192) + content[12288:],
            "truncated": content[:5000],
            "not a database": b"step,loss\n1,2.0\n" * 1000,
        }
        path.write_bytes(broken[damage])
    recovered = Store.open(path)
    aside = [each for each in path.parent.iterdir() if ".damaged-" in each.name]
    assert recovered.recovered is not None
    assert aside
    assert aside[0].name.split(".wal")[0] in recovered.recovered
    assert recovered.indexed == 0
    filled(recovered)
    assert len(recovered.rank()) == 4
    recovered.close()


def test_damage_that_shows_only_when_read_is_told_as_damage(path: Path) -> None:
    store = filled(Store.open(path))
    store.append([losses("a", [math.sin(step) for step in range(50_000)])])
    store.checkpoint()
    where = "column_name = 'value' AND segment_type = 'DOUBLE' AND persistent"
    ((block,),) = ask(store, f"SELECT min(block_id) FROM pragma_storage_info('points') WHERE {where}")
    store.close()
    content = bytearray(path.read_bytes())
    content[12_288 + 262_144 * int(str(block)) + 5_000] ^= 0xFF
    path.write_bytes(content)
    with closing(Store.open(path)) as store:
        assert store.recovered is None
        with pytest.raises(StoreDamaged, match="has to be rebuilt"):
            store.digest()


def test_a_history_of_another_version_is_made_anew(path: Path) -> None:
    store = filled(Store.open(path))
    ask(store, f"UPDATE meta SET number = {SCHEMA + 1} WHERE key = 'schema'")
    store.close()
    again = Store.open(path)
    assert "another version" in str(again.recovered)
    assert again.indexed == 0
    again.close()


def test_two_damaged_histories_in_a_second_are_both_kept(path: Path) -> None:
    for content in (b"one" * 9999, b"two" * 9999):
        path.write_bytes(content)
        Store.open(path).close()
    assert sorted(each.read_bytes()[:3] for each in path.parent.glob("*.damaged-*")) == [b"one", b"two"]


def test_a_history_that_another_engine_has_open_is_left_alone(store: Store, path: Path) -> None:
    filled(store)
    code = f"""
        from pathlib import Path
        from engine.history.store import Store
        from engine.history.database import StoreError
        try:
            Store.open(Path({str(path)!r}))
        except StoreError as error:
            print("refused:", error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, capture_output=True, text=True)
    assert "refused: another process has" in done.stdout, done.stderr
    assert store.indexed == 7
    assert not list(path.parent.glob("*.damaged-*"))


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="set state_dir"):
        Store.open(tmp_path / "nowhere" / "history.duckdb")
    (tmp_path / "history.duckdb").mkdir()
    with pytest.raises(StoreError, match="move it away"):
        Store.open(tmp_path / "history.duckdb")


def test_killed_at_any_moment_every_line_is_counted_once(path: Path) -> None:
    """The writer is killed right after it says that it committed; the next one goes on from the stored offset."""
    code = """
        import sys
        from pathlib import Path
        from tests.history_samples import losses
        from engine.history.store import Store
        store = Store.open(Path(sys.argv[1]))
        assert store.recovered is None
        while True:
            at = store.offsets().get("a", 0)
            assert store.append([losses("a", [1.0] * 100, at, at // 10)]) == ()
            print(at + 1000, flush=True)
    """
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = 0
    for lines in (1, 3, 2):
        command = [sys.executable, "-c", textwrap.dedent(code), str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as writer:
            assert writer.stdout is not None
            for _ in range(lines):
                said = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
    store = Store.open(path)
    assert store.recovered is None
    kept = store.offsets()["a"]
    assert kept >= said
    assert ask(store, "SELECT count(*), count(DISTINCT step) FROM points") == [(kept // 10, kept // 10)]
    assert ask(store, "SELECT count FROM summaries") == [(kept // 10,)]
    store.close()


def test_events_of_verdicts_survive_without_their_rows(store: Store) -> None:
    store.index([], [verdict_event(1, "0009", SOLID)], 1)
    assert ask(store, "SELECT experiment, baseline, n, sentence FROM verdicts") == [
        ("0009", "trunk-1", 3, "it is solid")
    ]
