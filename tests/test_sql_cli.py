"""A researcher asks the history from a shell: into a table, into a file, by name, and for other programs while runs go on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest

from cockpit.attach import Session
from cockpit.querying import write_whole
from engine.rpc import BAD_SQL, UNKNOWN_ID, RpcError
from tests.test_cli import Cockpit
from tests.tinylab import TinyLab, better, decide, rows, wait_for, waiting

ROOT = Path(__file__).resolve().parent.parent
ENDLESS = "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE a.range * b.range % 7 = 3"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyLab]:
    """A lab whose trunk has run."""
    made = TinyLab(tmp_path_factory.mktemp("sql") / "lab", [better(1)])
    with made.session() as session:
        wait_for(lambda: rows(session, "experiment").get("trunk-1", {}).get("state") == "judged")
    yield made
    made.end()


@pytest.fixture
def cockpit(lab: TinyLab, capsys: pytest.CaptureFixture[str]) -> Cockpit:
    return Cockpit(lab.root, capsys)


@pytest.fixture
def session(lab: TinyLab) -> Iterator[Session]:
    with lab.session() as opened:
        yield opened


# --- files


def test_an_answer_is_written_into_a_file_of_the_kind_that_its_name_says(cockpit: Cockpit, tmp_path: Path) -> None:
    asked = "SELECT range AS step, range / 4 AS loss FROM range(50000)"
    for name in ("out.csv", "out.json", "out.jsonl", "out.parquet"):
        done = cockpit.json("sql", asked, "-o", str(tmp_path / name))
        assert (done["rows"], done["columns"], done["truncated"]) == (50_000, ["step", "loss"], False)
        assert done["bytes"] == (tmp_path / name).stat().st_size
    assert parquet.read_table(tmp_path / "out.parquet").column("loss").to_pylist()[-1] == 49_999 / 4
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 50_001
    assert json.loads((tmp_path / "out.json").read_text())[1] == {"step": 1, "loss": 0.25}
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 50_000
    assert sorted(each.name for each in tmp_path.iterdir()) == ["out.csv", "out.json", "out.jsonl", "out.parquet"]


def test_a_named_question_with_a_parameter_goes_into_a_file_too(cockpit: Cockpit, tmp_path: Path) -> None:
    code, said = cockpit("sql", "leaderboard", "--param", "limit=3", "-o", str(tmp_path / "best.csv"))
    assert (code, "0 rows" in said) == (0, True)
    assert "experiment" in (tmp_path / "best.csv").read_text().splitlines()[0]


def test_a_file_is_never_overwritten_unless_that_is_said(cockpit: Cockpit, tmp_path: Path) -> None:
    mine = tmp_path / "mine.csv"
    mine.write_text("precious")
    assert cockpit("sql", "SELECT 1 AS a", "-o", str(mine))[0] == 2
    assert "--force" in cockpit.err
    assert mine.read_text() == "precious"
    assert cockpit("sql", "SELECT 1 AS a", "-o", str(mine), "--force")[0] == 0
    assert mine.read_text() == '"a"\n1\n'


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("SELECT 1", "-o", "answer.xlsx"), ".parquet"),
        (("SELECT 1", "-o", "answer"), ".parquet"),
        (("SELECT 1", "-o", "a.csv", "--limit", "3"), "LIMIT"),
        (("-o", "a.csv"), "name a query"),
        (("--save", "mine"), "name a query"),
        (("leaderboard", "--save", "mine"), "name of a query already"),
    ],
)
def test_wrong_use_says_what_to_write(cockpit: Cockpit, words: tuple[str, ...], says: str) -> None:
    assert cockpit("sql", *words)[0] == 2
    assert says in cockpit.err


def test_a_file_that_broke_off_leaves_nothing_behind(tmp_path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise RpcError(BAD_SQL, "the engine went away")

    with pytest.raises(RpcError):
        write_whole(tmp_path / "x.csv", pieces(), force=True)
    assert list(tmp_path.iterdir()) == []


# --- questions by name


def test_questions_are_listed_with_where_they_come_from_and_shown(cockpit: Cockpit, lab: TinyLab) -> None:
    code, said = cockpit("sql", "SELECT count(*) AS n FROM shards WHERE rung = $rung", "--save", "how-many",
                         "--title", "How many shards", "--description", "of a rung")  # fmt: skip
    assert (code, "cockpit sql how-many" in said) == (0, True)
    assert (lab.root / "queries" / "how-many.sql").read_text().splitlines() == [
        "-- title: How many shards",
        "-- description: of a rung",
        "-- param: rung text",
        "SELECT count(*) AS n FROM shards WHERE rung = $rung",
    ]
    assert cockpit.json("sql", "how-many", "--param", "rung=screen")["rows"] == [[3]]
    found = {each["name"]: each for each in cockpit.json("sql")["queries"]}
    assert (found["how-many"]["source"], found["leaderboard"]["source"]) == ("lab", "shipped")
    code, said = cockpit("sql", "leaderboard", "--show")
    assert code == 0
    assert "-- title: " in said
    assert cockpit("sql", "no-such", "--show")[0] == 1


def test_a_question_of_ones_own_is_not_overwritten_unasked_and_has_to_be_one(cockpit: Cockpit, lab: TinyLab) -> None:
    assert cockpit("sql", "SELECT 1", "--save", "twice")[0] == 0
    assert cockpit("sql", "SELECT 2", "--save", "twice")[0] == 1
    assert "overwrite" in cockpit.err
    assert cockpit("sql", "SELECT 2", "--save", "twice", "--force")[0] == 0
    assert cockpit.json("sql", "twice")["rows"] == [[2]]
    for name in ("../evil", "Evil", "a/b", ".hidden", "", "x" * 65):
        assert cockpit("sql", "SELECT 1", "--save", name)[0] in (1, 2), name
    assert cockpit("sql", "DROP TABLE shards", "--save", "drop")[0] == 1
    assert sorted(each.name for each in (lab.root / "queries").iterdir() if each.stem in ("twice", "drop")) == [
        "twice.sql"
    ]


def test_what_a_terminal_would_obey_is_made_visible(cockpit: Cockpit) -> None:
    _, said = cockpit("sql", "SELECT chr(27) || '[2J' AS \"\x1b]52;c;aGk=\x07\"")
    assert "\x1b" not in said
    assert "␛" in said


# --- stopping


def test_ctrl_c_stops_the_query_where_it_runs(lab: TinyLab, session: Session) -> None:
    words = [sys.executable, "-m", "cockpit.cli", "-C", str(lab.root), "sql", ENDLESS, "--deadline", "600"]
    engine = session.hello["pid"]
    before = {pid: used(pid) for pid in children(engine)}  # by the queries of others
    shell = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child = wait_for(lambda: next((pid for pid in children(engine) if used(pid) > before.get(pid, 0) + 2), None), 60)
    shell.send_signal(signal.SIGINT)
    assert shell.wait(30) == 130
    wait_for(lambda: not Path(f"/proc/{child}").exists())
    assert session.call("sql", text="SELECT 1")["rows"] == [[1]]


def children(pid: int) -> list[int]:
    """Children of a process that run queries (Linux)."""
    tasks = Path(f"/proc/{pid}/task")
    if not tasks.exists():
        pytest.skip("this system does not show processes")
    found = [int(each) for task in tasks.iterdir() for each in (task / "children").read_text().split()]
    return [each for each in found if b"console_child\0serve" in Path(f"/proc/{each}/cmdline").read_bytes()]


def used(pid: int) -> float:
    """Seconds of a core that a process has used; starting one takes less than two."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_another_client_cancels_by_the_name_of_the_request(lab: TinyLab, session: Session) -> None:
    refusals: list[RpcError] = []

    async def both() -> None:
        with lab.session() as other:
            asked = asyncio.create_task(asyncio.to_thread(ask, other))
            while not await asyncio.to_thread(lambda: session.call("sql_cancel", request="mine")["cancelled"]):
                pass  # it is not there yet
            await asked

    def ask(other: Session) -> None:
        with pytest.raises(RpcError) as refused:
            other.call("sql_open", text=ENDLESS, request="mine", deadline_s=600)
        refusals.append(refused.value)

    asyncio.run(both())
    assert [(each.code, each.message) for each in refusals] == [(BAD_SQL, "cancelled")]
    assert session.call("sql", text="SELECT 1")["rows"] == [[1]]


# --- what the SQL screen asks


def test_a_held_result_is_paged_arranged_exported_and_closed(session: Session) -> None:
    answer = session.call("sql_open", text="SELECT range AS n, 'é' || range AS name FROM range(100000)", request="r")
    assert (answer["rows"], len(answer["page"]), answer["picture"]) == (100_000, 200, None)
    assert answer["age_s"] >= 0
    result = answer["result"]
    down = [{"column": 0, "descending": True}]
    assert session.call("sql_arrange", result=result, sort=down, filter="n < 5000 é") == {"total": 5000}
    page = session.call("sql_rows", result=result, start=10, count=2)
    assert page == {"rows": [[4989, "é4989"], [4988, "é4988"]], "start": 10, "total": 5000}
    with pytest.raises(RpcError) as bad:
        session.call("sql_arrange", result=result, sort=[], filter="nn = 1")
    assert (bad.value.code, "there are n, name" in bad.value.message) == (BAD_SQL, True)
    assert session.call("sql_export", result=result, format="csv", start_part=0)["next"] is None
    assert session.call("sql_close", result=result) == {}
    with pytest.raises(RpcError, match="run the query again") as gone:
        session.call("sql_rows", result=result, start=0, count=1)
    assert gone.value.code == UNKNOWN_ID


def test_the_schema_names_tables_columns_functions_and_keywords(session: Session) -> None:
    schema = session.call("sql_schema")
    tables = {each["name"]: each for each in schema["tables"]}
    assert {"name": "metric", "type": "DOUBLE"} in tables["shards"]["columns"]
    assert (tables["shards"]["kind"], tables["leaderboard"]["kind"]) == ("table", "view")
    assert "NULL, never 0 or 100" in tables["shards"]["comment"]
    assert {"avg", "quantile_cont", "list_sort"} <= set(schema["functions"])
    assert {"select", "where"} <= set(schema["keywords"])
    assert session.call("sql_schema") == schema


# --- other programs


def test_a_snapshot_opens_in_another_program_while_the_engine_writes(
    tiny: Callable[..., TinyLab], capsys: pytest.CaptureFixture[str]
) -> None:
    lab = tiny(better(1), steps=40)
    cockpit = Cockpit(lab.root, capsys)
    lab.hold.touch()  # shards stay at their first step: the engine goes on while we look
    with lab.session() as session:
        decide(session, wait_for(lambda: waiting(session))[0])
        wait_for(lambda: any(row["state"] == "running" for row in rows(session, "shard").values()))
        made = [cockpit.json("snapshot", "--keep", "2") for _ in range(3)]
        lab.hold.unlink()
        wait_for(lambda: rows(session, "experiment").get("0001", {}).get("state") == "judged")
        assert query(made[2]["path"]) == query(str(lab.state.root / "snapshots" / "latest.duckdb"))
        assert query(made[2]["path"])[0] > 0
        names = sorted(each.name for each in (lab.state.root / "snapshots").iterdir())
        assert names == sorted([Path(made[1]["path"]).name, Path(made[2]["path"]).name, "latest.duckdb"])
        mine = lab.root.parent / "mine.duckdb"
        assert cockpit("snapshot", str(mine))[0] == 0
        assert query(str(mine))[0] > query(made[2]["path"])[0]
        assert cockpit("snapshot", str(mine))[0] == 2
        assert "--force" in cockpit.err
        assert all(each["ok"] for each in session.call("verify")["checks"])


def query(path: str) -> list[int]:
    """What another process reads in a snapshot."""
    code = (
        "import duckdb, json, sys; con = duckdb.connect(sys.argv[1], read_only=True); "
        "print(json.dumps([con.execute(f'SELECT count(*) FROM {name}').fetchone()[0] for name in ('events', 'shards')]))"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: Any = json.loads(done.stdout)
    return list(found)
