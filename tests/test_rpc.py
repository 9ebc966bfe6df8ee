"""The socket: strangers and broken messages are told what is wrong, slow readers are let go, and a restart is survived."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cockpit.attach import Session, is_running
from cockpit.client import Client
from engine import rpc
from engine.rpc import RpcError
from engine.server import IN_FLIGHT, QUEUE_LIMIT, Server
from engine.types import PROTOCOL
from tests.tinylab import TinyLab, better, rows, wait_for, waiting

Make = Callable[..., TinyLab]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyLab]:
    """One tiny lab with a running engine, whose trunk has run; no test here changes it."""
    made = TinyLab(tmp_path_factory.mktemp("rpc") / "lab", [better(1)])
    with made.session() as session:
        wait_for(lambda: rows(session, "experiment").get("trunk-1", {}).get("state") == "judged" and waiting(session))
    yield made
    made.end()


class Line:
    """A bare connection: bytes in, messages out."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(str(path))
        self.file = self.socket.makefile("rb")

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()
        self.socket.close()

    def send(self, raw: bytes) -> None:
        self.socket.sendall(raw)

    def read(self) -> dict[str, Any] | None:
        """The next message; None when the engine has hung up."""
        with suppress(ConnectionResetError):
            line = self.file.readline()
            return dict(json.loads(line)) if line else None
        return None

    def ask(self, method: str, /, **params: Any) -> dict[str, Any]:
        self.send(rpc.request(1, method, params))
        answer = self.read()
        assert answer is not None
        return answer


@pytest.fixture
def line(lab: TinyLab) -> Iterator[Line]:
    """A connection that has said hello."""
    with Line(lab.state.socket) as made:
        hello = made.ask("hello", token=lab.state.token.read_text(), client="test", protocol=PROTOCOL)
        assert hello["result"]["lab"]["name"] == "tiny"
        yield made


def code(answer: dict[str, Any]) -> int:
    return int(answer["error"]["code"])


# --- what is wrong is said ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "expected", "says"),
    [
        (b"what?\n", rpc.PARSE_ERROR, "not JSON"),
        (b"\xff\xfe\n", rpc.PARSE_ERROR, "not JSON"),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "status"\n', rpc.PARSE_ERROR, "not JSON"),
        (b"[" * 100_000 + b"\n", rpc.PARSE_ERROR, "not JSON"),
        (b"[]\n", rpc.INVALID_REQUEST, "JSON-RPC 2.0"),
        (b"17\n", rpc.INVALID_REQUEST, "JSON-RPC 2.0"),
        (b'{"id": 1, "method": "status"}\n', rpc.INVALID_REQUEST, '"jsonrpc": "2.0"'),
        (b'{"jsonrpc": "1.0", "id": 1, "method": "status"}\n', rpc.INVALID_REQUEST, '"jsonrpc": "2.0"'),
        (b'{"jsonrpc": "2.0", "id": {}, "method": "status"}\n', rpc.INVALID_REQUEST, "id must be"),
        (b'{"jsonrpc": "2.0", "id": 1}\n', rpc.INVALID_REQUEST, "method"),
        (b'{"jsonrpc": "2.0", "id": 1, "method": 3}\n', rpc.INVALID_REQUEST, "method"),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "show", "params": ["p1"]}\n', rpc.INVALID_REQUEST, "an object"),
        (
            b'{"jsonrpc": "2.0", "id": 1, "method": "pause", "params": {"why": "\\ud800"}}\n',
            rpc.INVALID_REQUEST,
            "surrogate",
        ),
        (
            b'{"jsonrpc": "2.0", "id": 1, "method": "launch_missiles"}\n',
            rpc.UNKNOWN_METHOD,
            "there are ack, again, ask_brief, audit, body",
        ),
    ],
)
def test_a_broken_message_is_answered_and_the_connection_stays(
    line: Line, raw: bytes, expected: int, says: str
) -> None:
    line.send(raw)
    answer = line.read()
    assert answer is not None
    assert code(answer) == expected
    assert says in answer["error"]["message"]
    assert line.ask("status")["result"]["lab"] == "tiny"


@pytest.mark.parametrize(
    ("method", "params", "names"),
    [
        ("pull", {"since": "yesterday"}, "since"),
        ("pull", {"since": 0, "limit": None}, "limit"),
        ("pull", {"until": 5}, "until"),
        ("curve", {"shards": "trunk-1", "metric": "loss"}, "shards"),
        ("log", {}, "shard"),
        ("log", {"shard": 3}, "shard"),
        ("decide", {"proposal": "p0001", "diff_hash": "x", "action": "approve"}, "request_id"),
        ("stop", {"id": ["0001"], "request_id": "r"}, "id"),
        ("sql", {"params": []}, "params"),
        ("subscribe", {"live": "yes"}, "live"),
        ("subscribe", {"loud": True}, "subscribe"),
        ("status", {"me": 1}, "me"),
    ],
)
def test_a_wrong_parameter_is_named(line: Line, method: str, params: dict[str, Any], names: str) -> None:
    answer = line.ask(method, **params)
    assert code(answer) == rpc.INVALID_PARAMS
    assert names in answer["error"]["message"]
    assert answer["error"]["message"].startswith(f"{method}: ")


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("diff", {"proposal": "p9999"}),
        ("log", {"shard": "../../../etc/passwd"}),
        ("metrics", {"shard": "none"}),
        ("body", {"hash": "../engine.lock"}),
        ("body", {"hash": "0" * 64}),
        ("stop", {"id": "9999", "request_id": "r"}),
        ("sign", {"experiment": "trunk-1", "diff_hash": "", "request_id": "r"}),
        ("decide", {"proposal": "p9999", "diff_hash": "", "action": "approve", "request_id": "r"}),
        ("sql", {"query": "no-such-question"}),
    ],
)
def test_what_is_not_there_is_said_to_be_unknown(line: Line, method: str, params: dict[str, Any]) -> None:
    assert code(line.ask(method, **params)) == rpc.UNKNOWN_ID


def test_a_message_of_two_mebibytes_is_refused_with_the_limit_and_the_engine_goes_on(lab: TinyLab, line: Line) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):
        line.send(b'{"jsonrpc": "2.0", "id": 1, "method": "pause", "params": {"why": "' + b"x" * (2 << 20) + b'"}}\n')
    answer = line.read()
    assert answer is not None
    assert code(answer) == rpc.INVALID_REQUEST
    assert str(rpc.MAX_MESSAGE) in answer["error"]["message"]
    assert line.read() is None
    with lab.session() as session:
        assert session.call("status")["running"] == 0
        with pytest.raises(RpcError, match="allowed"):  # the client's own side refuses it before it is sent
            session.call("pause", why="x" * (2 << 20))


@pytest.mark.parametrize("token", ["", "0" * 64, 17, None, ["a"]])
def test_without_the_token_nothing_is_told(lab: TinyLab, token: object) -> None:
    with Line(lab.state.socket) as line:
        assert code(line.ask("status")) == rpc.WRONG_TOKEN
        refused = line.ask("hello", token=token, client="thief", protocol=PROTOCOL)
        assert code(refused) == rpc.WRONG_TOKEN
        for method in ("pull", "subscribe", "shutdown", "no_such_method"):
            answer = line.ask(method)
            assert code(answer) == rpc.WRONG_TOKEN
            assert "hello" in answer["error"]["message"]
            assert "result" not in answer


@pytest.mark.parametrize("protocol", [PROTOCOL + 1, str(PROTOCOL), None])
def test_another_protocol_is_told_both_numbers_and_what_to_do(lab: TinyLab, protocol: object) -> None:
    with Line(lab.state.socket) as line:
        answer = line.ask("hello", token=lab.state.token.read_text(), client="old", protocol=protocol)
        assert code(answer) == rpc.WRONG_PROTOCOL
        assert f"protocol {PROTOCOL}" in answer["error"]["message"]
        assert repr(protocol) in answer["error"]["message"]
        assert "cockpit down" in answer["error"]["message"]


def test_socket_token_and_state_are_private(lab: TinyLab) -> None:
    def mode(path: Path) -> int:
        return stat.S_IMODE(os.lstat(path).st_mode)

    assert stat.S_ISSOCK(os.lstat(lab.state.socket).st_mode)
    assert {mode(each) for each in (lab.state.socket, lab.state.token, lab.state.ledger)} == {0o600}
    assert {mode(each) for each in (lab.state.runtime, lab.state.root)} == {0o700}
    assert len(os.fsencode(lab.state.socket)) < 100


def test_many_clients_ask_at_once_and_each_gets_its_own_answers(lab: TinyLab) -> None:
    def one(number: int) -> list[int]:
        with lab.session() as session:
            heads = [session.call("pull", since=0)["head"] for _ in range(5)]
            with pytest.raises(RpcError) as unknown:
                session.call("diff", proposal=f"client-{number}")
            assert f"client-{number}" in unknown.value.message
            return heads

    with ThreadPoolExecutor(20) as pool:
        heads = [head for found in pool.map(one, range(40)) for head in found]
    assert len(heads) == 200
    assert len(set(heads)) == 1


def test_many_requests_of_one_client_are_all_answered(line: Line) -> None:
    line.send(b"".join(rpc.request(number, "status", {}) for number in range(3 * IN_FLIGHT)))
    answers = [line.read() for _ in range(3 * IN_FLIGHT)]
    assert {answer["id"] for answer in answers if answer} == set(range(3 * IN_FLIGHT))


# --- pages and numbers -------------------------------------------------------------------------------------------------


def test_pages_of_any_size_give_the_same_rows(lab: TinyLab, line: Line) -> None:
    with lab.session() as session:
        whole, head = session.rows()
    found: list[dict[str, Any]] = []
    since = 0
    while since < head:
        page = line.ask("pull", since=since, limit=1)["result"]
        assert page["rows"]
        assert since < page["next"] <= page["head"] == head
        found, since = found + page["rows"], page["next"]
    assert found == whole
    assert line.ask("pull", since=head)["result"]["rows"] == []
    assert line.ask("pull", since=head + 100)["result"]["rows"] == []


def test_numbers_that_json_has_not_go_as_null(line: Line) -> None:
    answer = line.ask("sql", text="SELECT 'nan'::DOUBLE AS a, 'inf'::DOUBLE AS b, 1.5::DOUBLE AS c")
    assert answer["result"]["rows"] == [[None, None, 1.5]]
    encoded = rpc.result(1, {"a": [float("nan"), {"b": float("-inf")}], "c": (1.0, 2)})
    assert json.loads(encoded)["result"] == {"a": [None, {"b": None}], "c": [1.0, 2]}


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_break_the_decoder(raw: bytes) -> None:
    with suppress(RpcError):
        number, method, params = rpc.decode_request(raw)
        assert isinstance(method, str)
        assert isinstance(params, dict)
        assert number is None or isinstance(number, int | str)


# --- slow readers (the server alone, in this process) ------------------------------------------------------------------


@asynccontextmanager
async def serving(
    path: Path, silence_s: float, **methods: Callable[..., Awaitable[Any]]
) -> AsyncIterator[tuple[Server, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A server, and one client that has said hello and subscribed."""
    server = Server(path, "token", methods, dict, silence_s)
    await server.start()
    reader, writer = await asyncio.open_unix_connection(str(path), limit=4 * rpc.MAX_MESSAGE)
    writer.write(rpc.request(1, "hello", {"token": "token", "protocol": PROTOCOL}))
    writer.write(rpc.request(2, "subscribe", {"live": True}))
    answers = [json.loads(await reader.readline())["id"] for _ in range(2)]
    assert sorted(answers) == [1, 2]
    try:
        yield server, reader, writer
    finally:
        writer.close()
        await server.stop()


@pytest.fixture
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(os.environ["XDG_RUNTIME_DIR"]) / f"{tmp_path_factory.mktemp('s').name}.sock"


async def test_a_client_that_reads_nothing_is_let_go_and_others_notice_nothing(path: Path) -> None:
    async with serving(path, 0.2) as (server, _, deaf):
        deaf.transport.pause_reading()  # type: ignore[attr-defined]
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(rpc.request(1, "hello", {"token": "token", "protocol": PROTOCOL}))
        writer.write(rpc.request(2, "subscribe", {}))
        await reader.readline(), await reader.readline()
        assert len(server.peers) == 2
        async with asyncio.timeout(30):
            while len(server.peers) == 2:
                server.broadcast("live", {"shards": {"x": "x" * 60_000}}, live=True)
                server.broadcast("head", {"seq": 1})
                assert json.loads(await reader.readline()) == {
                    "jsonrpc": "2.0",
                    "method": "head",
                    "params": {"seq": 1},
                }
        (left,) = server.peers
        assert not left.live
        writer.close()


async def test_notifications_that_nobody_reads_collapse_to_one_resync(path: Path) -> None:
    async with serving(path, 30.0) as (server, reader, _):
        for number in range(QUEUE_LIMIT + 50):  # without giving way: the client can read none of them
            server.broadcast("head", {"seq": number})
        assert json.loads(await reader.readline())["method"] == "resync"
        server.broadcast("head", {"seq": 7})
        assert json.loads(await reader.readline())["params"] == {"seq": 7}


async def test_up_to_the_limit_every_notification_arrives_in_order(path: Path) -> None:
    async def echo(word: str) -> str:
        return word

    async with serving(path, 30.0, echo=echo) as (server, reader, writer):
        for number in range(QUEUE_LIMIT):
            server.broadcast("head", {"seq": number})
        heard = [json.loads(await reader.readline())["params"]["seq"] for _ in range(QUEUE_LIMIT)]
        assert heard == list(range(QUEUE_LIMIT))
        writer.write(rpc.request(9, "echo", {"word": "ok"}))
        assert json.loads(await reader.readline())["result"] == "ok"


async def test_answers_that_nobody_reads_do_not_pile_up(path: Path) -> None:
    calls, busy = 0, asyncio.Event()

    async def long() -> str:
        nonlocal calls
        calls += 1
        if calls == IN_FLIGHT:
            busy.set()
        return "x" * 500_000

    async with serving(path, 5.0, long=long) as (_, reader, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        many = 4 * IN_FLIGHT
        writer.write(b"".join(rpc.request(number, "long", {}) for number in range(many)))
        await writer.drain()
        async with asyncio.timeout(30):
            await busy.wait()
        for _ in range(1000):  # give every request that could be worked on its turns
            await asyncio.sleep(0)
        assert calls <= IN_FLIGHT + 8
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        answers = {json.loads(await reader.readline())["id"] for _ in range(many)}
        assert answers == set(range(many))


async def test_an_error_inside_a_method_is_logged_and_told_without_its_traceback(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(word: str) -> str:
        return word + 1  # type: ignore[operator, no-any-return]

    async with serving(path, 30.0, broken=broken) as (_, reader, writer):
        writer.write(rpc.request(9, "broken", {"word": "ok"}))
        error = json.loads(await reader.readline())["error"]
    assert error["code"] == rpc.INTERNAL_ERROR
    assert "log" in error["message"]
    assert "concatenate" not in error["message"]
    assert "concatenate" in caplog.text


# --- the terminal's client ---------------------------------------------------------------------------------------------


async def test_the_terminals_client_outlives_an_engine_that_is_killed(tiny: Make) -> None:
    lab = tiny(better(1))
    process = await asyncio.to_thread(lab.start)
    client = Client(lab.root, start=False)
    await client.open()
    news = client.notifications()

    async def hear(wanted: str) -> dict[str, Any]:
        async for method, params in news:
            if method == wanted:
                return params
        raise AssertionError("notifications never end")

    try:
        async with asyncio.timeout(60):
            first = await hear("connected")
            assert first["pid"] == process.pid
            await client.call("subscribe", live=True)
            assert (await hear("head"))["seq"] > 0
            process.send_signal(signal.SIGKILL)
            await hear("disconnected")
            assert client.state == "reconnecting"
            with pytest.raises(RpcError) as gone:
                await client.call("status")
            assert gone.value.code == rpc.DISCONNECTED
            await asyncio.to_thread(process.wait)
            second = await asyncio.to_thread(lab.start)
            again = await hear("connected")
            assert again["pid"] == second.pid
            assert again["head"] >= first["head"]
            assert (await client.call("status"))["lab"] == "tiny"
    finally:
        await client.close()


async def test_the_terminals_client_starts_the_engine_and_says_why_it_does_not_start(tiny: Make) -> None:
    lab = tiny(better(1))
    config = (lab.root / "cockpit.toml").read_text()
    (lab.root / "cockpit.toml").write_text(config.replace('direction = "min"', 'direction = "down"'))
    client = Client(lab.root)
    await client.open()
    try:
        await asyncio.to_thread(wait_for, lambda: "direction" in str(client.problem))
        assert "Traceback" not in str(client.problem)
    finally:
        await client.close()
    (lab.root / "cockpit.toml").write_text(config)
    client = Client(lab.root)
    await client.open()
    try:
        async with asyncio.timeout(60):
            await client.wait()
        assert (await client.call("status"))["lab"] == "tiny"
        await client.call("shutdown")
    finally:
        await client.close()
    await asyncio.to_thread(wait_for, lambda: not is_running(lab.state))


def test_a_session_says_that_the_engine_went_away(tiny: Make) -> None:
    from cockpit.attach import EngineDown

    lab = tiny(better(1))
    with lab.session() as session:
        os.kill(session.hello["pid"], signal.SIGKILL)
        assert lab.engine is not None
        lab.engine.wait(30)
        with pytest.raises(EngineDown, match="went away"):
            session.call("status")
    assert isinstance(session, Session)
