"""The index comes to harm: it is set aside and made again from ledger and metrics files, and that is said; nobody acts."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import duckdb
import pytest

from cockpit.attach import Session
from engine.history.store import Store
from engine.rpc import RpcError
from tests.tinylab import TinyLab, rows, wait_for

STEPS = 3000
BLOCKS_FROM, BLOCK = 12_288, 262_144  # of DuckDB's file: three headers, then blocks
COUNT = "SELECT count(*), count(DISTINCT (shard, step)), sum(value) FROM points WHERE metric = 'loss'"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyLab]:
    """A lab whose trunk has run three seeds; the engine is stopped, what it wrote lies in its files."""
    made = TinyLab(tmp_path_factory.mktemp("recovery") / "lab", [], steps=STEPS)
    with made.session() as session:
        wait_for(lambda: [row["state"] for row in rows(session, "shard").values()] == ["ended"] * 3)
        wait_for(lambda: rows(session, "experiment")["trunk-1"]["state"] == "judged")
    made.stop()
    yield made
    made.end()


@pytest.fixture(scope="module")
def right(lab: TinyLab) -> tuple[list[object], dict[str, str]]:
    """What the history is to hold, as made anew from nothing: the answer to `COUNT`, and a digest of each table."""
    lab.state.history.unlink()
    with lab.session() as session:
        answer = wait_for(lambda: asked(session))
    lab.stop()
    assert answer[:2] == [3 * STEPS] * 2
    return answer, measured(lab)


def asked(session: Session) -> list[object] | None:
    """The answer to `COUNT`; None while the index is being mended."""
    with suppress(RpcError):
        return list(session.call("sql", text=COUNT)["rows"][0])
    return None


def measured(lab: TinyLab) -> dict[str, str]:
    """A digest of each table that a start of an engine, which is an event, leaves alone."""
    store = Store.open(lab.state.history)
    found = store.digest()
    store.close()
    return {table: digest for table, digest in found.items() if table not in ("events", "meta")}


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)


def place_of_values(path: Path) -> int:
    """The offset of the first block that holds values of points."""
    con = duckdb.connect(str(path), read_only=True)
    where = "column_name = 'value' AND segment_type = 'DOUBLE' AND persistent"
    ((block,),) = con.execute(f"SELECT min(block_id) FROM pragma_storage_info('points') WHERE {where}").fetchall()
    con.close()
    return BLOCKS_FROM + BLOCK * int(block)


def flipped_byte(path: Path) -> None:
    flip(path, place_of_values(path) + 5_000)


def zeroed_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(place_of_values(path))
        file.write(bytes(4096))


def flipped_in_the_header(path: Path) -> None:
    flip(path, 4100)


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def something_else(path: Path) -> None:
    path.write_bytes(b"step,loss\n1,2.0\n" * 1000)


def nothing_in_it(path: Path) -> None:
    path.write_bytes(b"")


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def cut_by_a_byte(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def a_log_of_rubbish_beside_it(path: Path) -> None:
    Path(f"{path}.wal").write_bytes(b"this is no write-ahead log\n" * 400)


def gone(path: Path) -> None:
    path.unlink()


SAID = (
    flipped_byte,
    zeroed_page,
    flipped_in_the_header,
    zeros,
    something_else,
    nothing_in_it,
    cut_short,
    cut_by_a_byte,
)
RUNNING = (flipped_byte, zeroed_page, zeros, cut_short, something_else, gone)
UNSAID = (a_log_of_rubbish_beside_it, gone)  # nothing that was there is lost: there is nothing to say


@pytest.mark.parametrize("damage", [*SAID, *UNSAID])
def test_what_came_to_harm_while_no_engine_ran_is_made_again(
    lab: TinyLab, right: tuple[list[object], dict[str, str]], damage: Callable[[Path], None]
) -> None:
    damage(lab.state.history)
    before = set(lab.state.root.glob("history*.damaged-*"))
    with lab.session() as session:
        if damage in SAID:
            said = wait_for(lambda: [each for each in session.call("status")["warnings"] if ".damaged-" in each])
            (aside,) = set(lab.state.root.glob("history*.damaged-*")) - before
            assert aside.name in said[0]
        assert wait_for(lambda: asked(session)) == right[0]
    lab.stop()
    assert measured(lab) == right[1]


@pytest.mark.parametrize("left", ["nothing", "half", "all but a byte", "zeros"])
def test_a_write_ahead_log_that_is_not_whole_costs_nothing(
    lab: TinyLab, right: tuple[list[object], dict[str, str]], left: str
) -> None:
    lab.state.history.unlink()
    with lab.session() as session:
        assert wait_for(lambda: asked(session)) == right[0]
        session.call("pause")
        session.call("resume")
        session.call("rank")
        os.kill(session.hello["pid"], signal.SIGKILL)
    assert lab.engine is not None
    lab.engine.wait(10)
    wal = Path(f"{lab.state.history}.wal")
    size = wal.stat().st_size
    if left == "nothing":
        wal.unlink()
    elif left == "zeros":
        wal.write_bytes(bytes(size))
    else:
        os.truncate(wal, size // 2 if left == "half" else size - 1)
    with lab.session() as session:
        assert wait_for(lambda: asked(session)) == right[0]
    lab.stop()
    assert measured(lab) == right[1]


@pytest.mark.parametrize("damage", RUNNING)
def test_what_comes_to_harm_under_a_running_engine_is_made_again_by_it(
    lab: TinyLab, right: tuple[list[object], dict[str, str]], damage: Callable[[Path], None]
) -> None:
    with lab.session() as session:
        pid = session.hello["pid"]
        assert wait_for(lambda: asked(session)) == right[0]  # which writes everything into the file itself
        copy = lab.state.root / "copy"
        copy.write_bytes(lab.state.history.read_bytes())
        place = place_of_values(copy)
        copy.unlink()
        harm(damage, lab.state.history, place)
        session.call("pause")
        session.call("resume")  # something new, so that the next question is not answered from an older copy
        answers = wait_for(lambda: (found := asked(session)) and session.call("status")["warnings"] and [found])
        assert [*answers, asked(session)] == [right[0]] * 2  # never one out of what is not whole yet
        assert any("damaged" in each or "could not be opened" in each for each in session.call("status")["warnings"])
        assert session.hello["pid"] == pid
        session.call("verify")
    lab.stop()
    assert measured(lab) == right[1]


def harm(damage: Callable[[Path], None], path: Path, place: int) -> None:
    """The same damages, in place, to a file that another process has open and locked."""
    if damage is gone:
        path.unlink()
        return
    with path.open("r+b") as file:
        size = path.stat().st_size
        if damage in (flipped_byte, zeroed_page):
            file.seek(place + 100)
            file.write(bytes(4096) if damage is zeroed_page else b"\xff\x00\xff")
        elif damage is cut_short:
            file.truncate(size // 2)
        else:
            file.write(bytes(size) if damage is zeros else b"step,loss\n1,2.0\n" * 100)
            file.truncate(size if damage is zeros else 1600)


def test_a_full_disk_at_a_checkpoint_costs_no_history(lab: TinyLab, right: tuple[list[object], dict[str, str]]) -> None:
    before = set(lab.state.root.glob("history*.damaged-*"))
    with lab.session() as session:
        assert wait_for(lambda: asked(session)) == right[0]
        pid = session.hello["pid"]
        small = 2 * lab.state.ledger.stat().st_size
        assert small < lab.state.history.stat().st_size
        _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (small, most))  # the kernel then writes no file beyond that
        session.call("pause")
        with pytest.raises(RpcError, match="is the disk full"):
            session.call("sql", text=COUNT)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))
        session.call("resume")
        assert wait_for(lambda: asked(session)) == right[0]
    lab.stop()
    assert set(lab.state.root.glob("history*.damaged-*")) == before
    assert measured(lab) == right[1]
