"""The ledger keeps what happened: it comes back as it was, notices every changed byte, and survives a full disk."""

from __future__ import annotations

import hashlib
import itertools
import json
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cockpit import cli
from engine import ledger as ledgers
from engine.ledger import GENESIS, Event, Ledger, LedgerError, read_lines, seal
from engine.rpc import READ_ONLY, RpcError
from tests.tinylab import TinyLab, better, rows, wait_for, waiting

Make = Callable[..., TinyLab]
STORY = [
    ("paused", {"why": "lunch"}),
    ("resumed", {"who": "Ada"}),
    ("paused", {"why": "the cluster is wanted, ünïcödé"}),
]


def ticking() -> Callable[[], float]:
    ticks = itertools.count(1000)
    return lambda: next(ticks) + 0.25


def written(path: Path, entries: list[tuple[str, Any]] = STORY) -> bytes:
    """The bytes of a ledger with these entries, each appended for itself."""
    ledger = Ledger(path, ticking())
    for kind, data in entries:
        ledger.append(kind, data)
    ledger.close()
    return path.read_bytes()


CHARACTERS = st.characters(codec="utf-8")  # half a surrogate pair is no text
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(CHARACTERS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(CHARACTERS), inner, max_size=4),
    max_leaves=12,
)
documents = st.dictionaries(st.text(CHARACTERS, max_size=8), json_values, max_size=5)


def test_what_was_appended_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    written(path)
    again = Ledger(path)
    assert [(each.n, each.t, each.type, each.data) for each in again.since(0)] == [
        (number, 999.25 + number, kind, data) for number, (kind, data) in enumerate(STORY, 1)
    ]
    assert again.head == 3
    assert not again.read_only
    assert again.append("resumed", {}).n == 4
    again.close()
    assert [event.n for event, _ in read_lines(path.read_bytes())] == [1, 2, 3, 4]


def test_each_line_carries_the_hash_of_its_bytes_and_of_the_line_before(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    prev = GENESIS
    for line in written(path).splitlines():
        fields = json.loads(line)
        assert fields["prev"] == prev
        assert line.endswith(b',"hash":"' + fields["hash"].encode() + b'"}')
        prev = hashlib.sha256(line[: line.rindex(b',"hash":"')]).hexdigest()
        assert fields["hash"] == prev
    assert path.stat().st_mode & 0o777 == 0o600


@settings(max_examples=60, deadline=None)
@given(entries=st.lists(st.tuples(st.text("abc.", min_size=1, max_size=9), documents), min_size=1, max_size=5))
def test_any_json_comes_back_and_is_the_same_before_and_after_the_restart(
    tmp_path_factory: pytest.TempPathFactory, entries: list[tuple[str, Any]]
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "ledger.jsonl"
    live = Ledger(path)
    said = live.append_all(list(entries))
    heard: list[Event] = []
    again = Ledger(path, each=heard.append)
    assert said == heard == list(live.since(0)) == list(again.since(0))
    assert [(event.type, event.data) for event in heard] == entries
    live.close()
    again.close()


@settings(max_examples=150, deadline=None)
@given(
    entries=st.lists(st.tuples(st.just("config.broken"), documents), min_size=1, max_size=4),
    place=st.floats(0, 1, exclude_max=True),
    flip=st.integers(1, 255),
)
def test_any_changed_byte_is_noticed_at_its_line(entries: list[tuple[str, Any]], place: float, flip: int) -> None:
    lines, prev = [], GENESIS
    for number, (kind, data) in enumerate(entries, 1):
        line, prev = seal(1, number, 17.0 + number, kind, data, prev)
        lines.append(line)
    raw = bytearray(b"".join(lines))
    at = int(place * len(raw))
    broken = raw.count(b"\n", 0, at) + 1
    raw[at] ^= flip
    with pytest.raises(LedgerError, match=rf"^ledger.jsonl:{broken}: "):
        list(read_lines(bytes(raw)))


def test_a_changed_last_newline_is_damage_and_not_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(written(path)[:-1] + b" ")
    with pytest.raises(LedgerError, match=r"ledger.jsonl:3: the end of this line was changed"):
        Ledger(path)
    assert [each.name for each in tmp_path.iterdir()] == ["ledger.jsonl"]


@pytest.mark.parametrize(
    "rewrite",
    [
        pytest.param(lambda lines: lines[1:], id="first line gone"),
        pytest.param(lambda lines: [lines[0], lines[2]], id="a line gone"),
        pytest.param(lambda lines: [lines[1], lines[0], lines[2]], id="two lines swapped"),
        pytest.param(lambda lines: [lines[0], lines[0], *lines[1:]], id="a line doubled"),
    ],
)
def test_lines_that_are_whole_but_not_in_their_place_are_noticed(tmp_path: Path, rewrite: Any) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b"".join(rewrite(written(path).splitlines(keepends=True))))
    with pytest.raises(LedgerError, match=r"ledger.jsonl:[12]: the chain is broken.*restore the file"):
        Ledger(path)


@given(cut=st.integers(1, 200))
@settings(max_examples=30, deadline=None)
def test_a_torn_last_line_is_set_aside_and_the_next_event_follows_the_last_whole_one(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.mktemp("torn") / "ledger.jsonl"
    raw = written(path)
    last = raw.splitlines(keepends=True)[-1]
    path.write_bytes(raw[: -min(cut, len(last) - 1)])
    torn = Ledger(path, lambda: 77.0)
    assert torn.head == 2
    assert torn.torn == path.with_name("ledger.torn-77")
    assert last.startswith(torn.torn.read_bytes())
    assert torn.append("resumed", {}).n == 3
    torn.close()
    assert Ledger(path).torn is None


def test_events_of_one_act_lie_together_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    made = ledger.append_all([("proposal.decided", {"n": 1}), ("experiment.intended", {"n": 2})])
    ledger.append("experiment.branched", {"n": 3})
    ledger.close()
    assert [each.n for each in made] == [1, 2]
    assert [event.data["n"] for event, _ in read_lines(path.read_bytes())] == [1, 2, 3]


def test_an_event_that_is_not_json_leaves_the_ledger_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    before = written(path)
    ledger = Ledger(path)
    with pytest.raises(TypeError):
        ledger.append_all([("paused", {}), ("paused", {"why": "half a pair \ud800"})])
    assert (ledger.head, path.read_bytes()) == (3, before)
    ledger.close()


def test_what_the_caller_changes_later_changes_no_event(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    data = {"shards": ["a"]}
    event = ledger.append("stop.intended", data)
    data["shards"].append("b")
    assert event.data == {"shards": ["a"]}
    ledger.close()


@contextmanager
def disk_full_after(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes: writing stops in the middle, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_refuses_the_event_and_leaves_the_chain_whole(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    before = written(path)
    ledger = Ledger(path)
    with disk_full_after(len(before) + 40), pytest.raises(OSError, match="too large"):
        ledger.append("paused", {"why": "x" * 100})
    assert path.read_bytes() == before
    assert ledger.append("paused", {"why": "room again"}).n == 4
    ledger.close()
    assert Ledger(path).head == 4


# --- a newer version wrote here ----------------------------------------------------------------------------------------


def add_newer(path: Path) -> bytes:
    """Append events as a later version might, one of them of a type that is known now and means something else then."""
    lines = list(read_lines(path.read_bytes()))
    n, prev = len(lines), lines[-1][1]
    with path.open("ab") as file:
        for kind, data in (("shard.ended", {"shard": {"id": "x"}, "why": 3}), ("dream.dreamt", {})):
            n += 1
            line, prev = seal(ledgers.VERSION + 1, n, 1.8e9, kind, data, prev)
            file.write(line)
    return path.read_bytes()


def test_a_ledger_of_a_newer_version_is_read_only_and_its_torn_end_is_left_to_that_version(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    written(path)
    raw = add_newer(path) + b'{"v":2,"n":6'
    path.write_bytes(raw)
    ledger = Ledger(path)
    assert ledger.read_only
    assert ledger.head == 5
    with pytest.raises(LedgerError, match=r"newer version \(2\).*read-only"):
        ledger.append("paused", {})
    ledger.close()
    assert path.read_bytes() == raw
    assert [each.name for each in tmp_path.iterdir()] == ["ledger.jsonl"]


def test_an_older_engine_shows_what_it_understands_of_a_newer_ledger_and_changes_nothing(
    tiny: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = tiny(better(1), better(2))
    with lab.session() as session:
        wait_for(lambda: rows(session, "experiment").get("trunk-1", {}).get("state") == "judged")
        wait_for(lambda: len(waiting(session)) == 2)
        before = {kind: rows(session, kind) for kind in ("proposal", "experiment", "shard")}
    lab.stop()
    raw = add_newer(lab.state.ledger)
    trunk = lab.git("rev-parse", "cockpit/trunk")
    with lab.session() as session:
        assert {kind: rows(session, kind) for kind in before} == before
        status = session.call("status")
        assert status["read_only"]
        assert status["phase"].startswith("read-only")
        assert any("newer version" in each and "upgrade" in each for each in status["warnings"])
        row = waiting(session)[0]
        acts: list[tuple[str, dict[str, Any]]] = [
            ("decide", {"proposal": row["id"], "diff_hash": row["diff_hash"], "action": "approve", "request_id": "r1"}),
            ("pause", {"why": "no"}),
            ("resume", {}),
            ("gc", {"dry_run": False}),
            ("trunk", {"action": "pull"}),
        ]
        for method, params in acts:
            with pytest.raises(RpcError, match="newer version: upgrade") as refused:
                session.call(method, **params)
            assert refused.value.code == READ_ONLY, method
        answer = session.call("sql", text="SELECT count(*) FROM proposals")
        assert answer["rows"] == [[2]]
        assert session.call("trunk")["trunk"] == trunk.strip()
        assert session.call("diff", proposal=row["id"])["diff"].startswith("diff --git")
        assert all(check["ok"] for check in session.call("verify")["checks"])
        assert cli.main(["-C", str(lab.root), "approve", row["id"], "--diff", row["diff_hash"], "--json"]) == 1
        assert "newer version" in json.loads(capsys.readouterr().out)["error"]
    lab.stop()
    assert lab.state.ledger.read_bytes() == raw
    assert lab.git("rev-parse", "cockpit/trunk") == trunk
    assert cli.main(["-C", str(lab.root), "verify"]) == 0


# --- the golden ledger -------------------------------------------------------------------------------------------------

GOLDEN = Path(__file__).parent / "golden"


def test_the_golden_ledger_has_every_type_of_event() -> None:
    from engine.events import TYPES

    ledgers = [read_lines(path.read_bytes()) for path in GOLDEN.glob("ledger-v1*.jsonl")]
    assert {event.type for ledger in ledgers for event, _ in ledger} == set(TYPES)


@pytest.mark.parametrize(
    "name",
    [
        "v1",
        "v1-asking",
        "v1-advice",
        "v1-judging",
        "v1-findings",
        "v1-signing",
        "v1-vouching",
        "v1-retuning",
        "v1-cluster",
        "v1-allocations",
        "v1-importing",
        "v1-setups",
    ],
)
def test_the_golden_ledger_still_folds_to_the_same_rows(name: str) -> None:
    from engine.core import fold

    raw = (GOLDEN / f"ledger-{name}.jsonl").read_bytes()
    state = fold([event for event, _ in read_lines(raw)])
    found = json.loads(json.dumps(list(state.since(0))))
    assert found == json.loads((GOLDEN / f"rows-{name}.json").read_text())
