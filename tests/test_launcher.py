"""Real processes: a shard is started once, ends in time and with all it forked, and outlives all but its launcher."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.paths import StateDir
from engine.shards import local
from engine.shards.executor import Ended, Event, Executor, ExecutorError, Vanished
from engine.shards.local import LocalExecutor, ensure_launcher
from engine.shards.outcome import Facts, classify
from engine.shards.records import make_key, read_exit, sealed
from engine.shards.spec import GUARD, ExitRecord, ShardSpec, SpecError, is_secret, shard_env
from engine.types import Outcome

REPO = Path(__file__).resolve().parent.parent
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs what only Linux has")
LIMIT_S = 30


class Pipe:
    """A FIFO that processes of a shard hold open for writing: what they say, and end of file when all of them are gone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.said = b""

    async def _readable(self) -> None:
        ready = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(self.fd, ready.set)
        try:
            await asyncio.wait_for(ready.wait(), LIMIT_S)
        finally:
            loop.remove_reader(self.fd)

    async def hear(self, count: int = 1) -> list[str]:
        """Wait for so many lines."""
        while self.said.count(b"\n") < count:
            await self._readable()
            self.said += os.read(self.fd, 4096)
        return self.said.decode().split()

    async def closed(self) -> None:
        """Wait until no process holds it any more."""
        while True:
            await self._readable()
            if not os.read(self.fd, 4096):
                return


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[StateDir]:
    root = Path(tempfile.mkdtemp(prefix="ck-"))
    (root / "run").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(root / "run"))
    found = StateDir(root / "state")
    found.make()
    yield found
    pid = launcher_pid(found)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(root)


@pytest.fixture
async def executor(state: StateDir) -> AsyncIterator[LocalExecutor]:
    found = LocalExecutor(state)
    yield found
    await found.close()


def launcher_pid(state: StateDir) -> int | None:
    """The launcher's process, as long as it answers."""
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(LIMIT_S)
            sock.connect(str(state.launcher_socket))
            sock.sendall(b'{"op": "list"}\n')
            return int(json.loads(sock.makefile().readline())["pid"])
    except (OSError, ValueError):
        return None


def environ_of(pid: int | None) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


async def run(*argv: str) -> int | None:
    """Run a command in the checkout; its exit status."""
    process = await asyncio.create_subprocess_exec(*argv, cwd=REPO)
    return await asyncio.wait_for(process.wait(), LIMIT_S)


def spec(state: StateDir, code: str, id: str = "0001.screen.s0.a1", **fields: Any) -> ShardSpec:
    """A shard that runs the Python `code`."""
    run_dir = state.runs / id
    env = shard_env({}, (), threads=1, gpus=(), run_dir=run_dir, tree=state.root)
    given: dict[str, Any] = {"timeout_s": 60.0, "env": env} | fields
    return ShardSpec(id=id, argv=(sys.executable, "-c", code), cwd=str(state.root), run_dir=str(run_dir), **given)


async def next_event(executor: Executor) -> Event:
    async with asyncio.timeout(LIMIT_S), aclosing(executor.events()) as events:  # type: ignore[type-var]
        return await anext(events)


async def end_of(executor: Executor) -> ExitRecord:
    event = await next_event(executor)
    assert isinstance(event, Ended)
    assert event.exit is not None
    return event.exit


def output(spec: ShardSpec) -> str:
    return (Path(spec.run_dir) / spec.output).read_text()


# --- a shard runs


async def test_a_shard_runs_and_leaves_its_record(state: StateDir, executor: LocalExecutor) -> None:
    asked = spec(state, "import sys; print('out'); print('err', file=sys.stderr); x = 'a' * 50_000_000")
    handle = await executor.launch(asked)
    assert (handle.state, handle.known) == ("running", False)
    record = await end_of(executor)
    assert (record.how, record.code, record.signal) == ("exited", 0, None)
    assert handle.where == f"pid {record.pid}"
    assert record.max_rss > 50_000_000
    assert record.cpu_s > 0
    assert record.ended > record.started
    assert output(asked).split() == ["out", "err"]
    assert ShardSpec.from_json(json.loads((Path(asked.run_dir) / "spec.json").read_text())) == asked
    assert read_exit(Path(asked.run_dir)) == record
    assert os.stat(asked.run_dir).st_mode & 0o077 == 0
    assert os.stat(Path(asked.run_dir) / "output.log").st_mode & 0o077 == 0


async def test_a_crash_has_its_code_and_a_kill_its_signal(state: StateDir, executor: LocalExecutor) -> None:
    await executor.launch(spec(state, "raise RuntimeError('no')", id="a"))
    assert (await end_of(executor)).code == 1
    await executor.launch(spec(state, "import os; os.kill(os.getpid(), 9)", id="b"))
    record = await end_of(executor)
    assert (record.code, record.signal) == (None, 9)


async def test_a_command_that_does_not_exist_is_a_record_too(state: StateDir, executor: LocalExecutor) -> None:
    handle = await executor.launch(replace(spec(state, ""), argv=("no-such-python", "train.py")))
    assert (handle.state, handle.known) == ("ended", False)
    record = await end_of(executor)
    assert record.how == "start-failed"
    assert "no-such-python" in str(record.error)
    assert classify(record, "", Facts())[0] is Outcome.LOST


async def test_a_shard_out_of_time_is_ended(state: StateDir, executor: LocalExecutor) -> None:
    await executor.launch(spec(state, "import signal; signal.pause()", timeout_s=0.3))
    record = await end_of(executor)
    assert (record.how, record.signal) == ("timeout", signal.SIGTERM)


# --- what a shard gets


async def test_the_environment_is_built_from_nothing_and_holds_no_secret(
    state: StateDir, executor: LocalExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "HF_TOKEN", "MY_SECRET", "DB_PASSWORD", "UNRELATED"):
        monkeypatch.setenv(name, "hush-hush")
    monkeypatch.setenv("DATA_ROOT", "/data")
    run_dir = state.runs / "a"
    env = shard_env(
        {"OMP_NUM_THREADS": "64", "WANDB_API_KEY": "hush-hush", "TOKENIZERS_PARALLELISM": "false"},
        ("DATA_ROOT", "ANTHROPIC_API_KEY", "HF_TOKEN", "ANTHROPIC_BASE_URL"),
        threads=3,
        gpus=("1", "2"),
        run_dir=run_dir,
        tree=state.root,
    )
    asked = spec(state, "import os, json; print(json.dumps(dict(os.environ)))", id="a", env=env)
    await executor.launch(asked)
    await end_of(executor)
    seen = json.loads(output(asked))
    assert "hush-hush" not in output(asked)
    assert set(seen) - {"COCKPIT_LAUNCH", "LC_CTYPE"} == set(env)
    assert {seen[f"{each}_NUM_THREADS"] for each in ("OMP", "MKL", "OPENBLAS", "NUMEXPR")} == {"3"}
    assert (seen["CUDA_VISIBLE_DEVICES"], seen["DATA_ROOT"], seen["PYTHONHASHSEED"]) == ("1,2", "/data", "0")
    assert seen["TMPDIR"] == str(run_dir / "tmp")
    assert (run_dir / "tmp").is_dir()
    pid = launcher_pid(state)
    if sys.platform.startswith("linux"):
        assert b"hush-hush" not in environ_of(pid)


def test_a_cpu_slot_sees_no_gpu() -> None:
    env = shard_env({"CUDA_VISIBLE_DEVICES": "0"}, (), threads=1, gpus=(), run_dir=Path("/r"), tree=Path("/t"))
    assert env["CUDA_VISIBLE_DEVICES"] == ""


def test_names_of_secrets() -> None:
    assert all(
        map(is_secret, ["OPENAI_API_KEY", "GH_TOKENS", "aws_secret_access_key", "PGPASSWORD", "ANTHROPIC_MODEL"])
    )
    assert not any(map(is_secret, ["TOKENIZERS_PARALLELISM", "PATH", "HF_HOME", "WANDB_MODE"]))


@LINUX
async def test_slot_limits_hold_in_the_shard(state: StateDir, executor: LocalExecutor) -> None:
    core = min(os.sched_getaffinity(0))
    code = (
        "import os, resource, stat; print(os.sched_getaffinity(0), os.nice(0), resource.getrlimit(resource.RLIMIT_CORE),"
        "os.getsid(0) == os.getpid(), os.umask(0), os.read(0, 1), sorted(int(f) for f in os.listdir('/dev/fd'))[:4])"
    )
    asked = spec(state, code, cores=(core,), nice=7)
    nice = os.nice(0)
    await executor.launch(asked)
    await end_of(executor)
    assert output(asked).strip() == f"{{{core}}} {min(19, nice + 7)} (0, 0) True {0o077} b'' [0, 1, 2, 3]"


# --- once and only once


async def test_launching_twice_starts_once(state: StateDir, executor: LocalExecutor) -> None:
    pipe = Pipe(state.root / "fifo")
    asked = spec(state, f"import os; os.write(os.open({str(pipe.path)!r}, os.O_WRONLY), b'ran\\n')")
    first = await executor.launch(asked)
    second = await executor.launch(asked)
    assert not first.known
    assert second.known
    await end_of(executor)
    third = await executor.launch(asked)
    assert (third.known, third.state) == (True, "ended")
    assert await pipe.hear() == ["ran"]
    await pipe.closed()
    assert pipe.said == b"ran\n"


async def test_many_at_once_each_start_once(state: StateDir, executor: LocalExecutor) -> None:
    asked = [spec(state, "print('x')", id=f"s{n}") for n in range(4)]
    handles = await asyncio.gather(*(executor.launch(each) for each in asked for _ in range(3)))
    assert sum(not each.known for each in handles) == 4
    ids = {(await end_of(executor)).id for _ in asked}
    assert ids == {each.id for each in asked}
    assert [output(each) for each in asked] == ["x\n"] * 4


async def test_a_launch_that_was_cut_short_is_lost_not_repeated(state: StateDir, executor: LocalExecutor) -> None:
    asked = spec(state, "print('never')")
    os.mkdir(asked.run_dir)  # as a launcher killed between making the directory and starting would leave it
    handle = await executor.launch(asked)
    assert (handle.state, handle.known) == ("lost", True)
    assert os.listdir(asked.run_dir) == []


async def test_scoring_runs_in_the_same_directory_with_its_own_record(state: StateDir, executor: LocalExecutor) -> None:
    code = """
import os, json
run = os.environ["COCKPIT_RUN_DIR"]
open(run + "/score.json", "w").write('{"metric": 0.0}')
open(run + "/score-exit.json", "w").write('{"how": "exited", "code": 0}')
os.symlink("/etc/passwd", run + "/score.log")
os.mkdir(run + "/exit.json")
"""
    train = spec(state, code)
    await executor.launch(train)
    assert (await end_of(executor)).code == 0
    assert not (Path(train.run_dir) / "score.json").exists()  # a shard cannot leave a forged score behind
    score = replace(train, id=train.id + ".score", fresh=False, output="score.log", record="score-exit.json")
    score = replace(score, argv=(sys.executable, "-c", "print('scored')"))
    handle = await executor.launch(score)
    assert not handle.known
    event = await next_event(executor)
    assert isinstance(event, Ended)
    assert (event.id, event.record) == (score.id, "score-exit.json")
    assert output(score) == "scored\n"
    assert read_exit(Path(train.run_dir)) is not None
    assert read_exit(Path(train.run_dir), "score-exit.json") == event.exit


async def test_what_was_planted_as_a_log_is_not_written_through(state: StateDir, executor: LocalExecutor) -> None:
    train = spec(state, "")
    await executor.launch(train)
    await end_of(executor)
    precious = state.root / "precious"
    precious.write_text("mine\n")
    later = Path(train.run_dir)
    (later / "link.log").symlink_to(precious)
    os.link(precious, later / "hard.log")
    os.mkfifo(later / "fifo.log")
    for name in ("link", "hard", "fifo"):
        step = replace(train, id=name, fresh=False, output=f"{name}.log", record=f"{name}-exit.json")
        await executor.launch(replace(step, argv=(sys.executable, "-c", "print('written')")))
        assert (await end_of(executor)).code == 0
        assert output(step) == "written\n"
    assert precious.read_text() == "mine\n"


async def test_a_shard_that_removes_its_directory_still_ends(state: StateDir, executor: LocalExecutor) -> None:
    await executor.launch(spec(state, "import os, shutil; shutil.rmtree(os.environ['COCKPIT_RUN_DIR'])"))
    assert (await end_of(executor)).code == 0


# --- stopping

FAMILY = """
import os, signal, sys
fifo = os.open({fifo!r}, os.O_WRONLY)
signal.pthread_sigmask(signal.SIG_BLOCK, {blocked})
os.write(fifo, b"leader\\n")
if os.fork() == 0:
    {child}
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.write(fifo, b"grandchild\\n")
    while True: signal.pause()
signal.pause()
signal.sigwait([signal.SIGUSR1])
"""


def family(pipe: Pipe, child: str = "pass", blocked: str = "[]") -> str:
    return FAMILY.format(fifo=str(pipe.path), child=child, blocked=blocked)


async def test_stop_ends_the_leader_and_what_ignores_it(state: StateDir, executor: LocalExecutor) -> None:
    pipe = Pipe(state.root / "fifo")
    await executor.launch(spec(state, family(pipe)))
    await pipe.hear(2)
    assert await executor.stop("0001.screen.s0.a1", grace_s=60.0)
    record = await end_of(executor)
    assert (record.how, record.signal) == ("stopped", signal.SIGTERM)
    await pipe.closed()
    assert not await executor.stop("0001.screen.s0.a1", grace_s=1.0)


async def test_a_leader_that_ignores_it_is_killed_after_the_grace(state: StateDir, executor: LocalExecutor) -> None:
    pipe = Pipe(state.root / "fifo")
    await executor.launch(spec(state, family(pipe, blocked="[signal.SIGTERM]")))
    await pipe.hear(2)
    await executor.stop("0001.screen.s0.a1", grace_s=0.2)
    record = await end_of(executor)
    assert (record.how, record.signal) == ("stopped", signal.SIGKILL)
    await pipe.closed()


async def test_kill_does_not_wait(state: StateDir, executor: LocalExecutor) -> None:
    pipe = Pipe(state.root / "fifo")
    await executor.launch(spec(state, family(pipe)))
    await pipe.hear(2)
    assert await executor.kill("0001.screen.s0.a1")
    assert (await end_of(executor)).signal == signal.SIGKILL
    await pipe.closed()


@LINUX
@pytest.mark.parametrize("escape", ["os.setpgid(0, 0)", "os.setsid()", "os.setsid(); os.fork() and os._exit(0)"])
async def test_nothing_escapes_by_leaving_the_group(state: StateDir, executor: LocalExecutor, escape: str) -> None:
    pipe = Pipe(state.root / "fifo")
    await executor.launch(spec(state, family(pipe, child=escape)))
    await pipe.hear(2)
    await executor.stop("0001.screen.s0.a1", grace_s=60.0)
    await end_of(executor)
    await pipe.closed()


# --- outliving


async def test_shards_outlive_a_killed_engine_which_takes_them_up_again(state: StateDir) -> None:
    pipe = Pipe(state.root / "fifo")
    asked = spec(state, family(pipe), id="0002.screen.s1.a1")
    engine = f"""
import asyncio, json, os, sys
from engine.paths import StateDir
from engine.shards.local import LocalExecutor
from engine.shards.spec import ShardSpec
from pathlib import Path
async def main():
    executor = LocalExecutor(StateDir(Path({str(state.root)!r})))
    await executor.launch(ShardSpec.from_json(json.loads(sys.argv[1])))
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""
    assert await run(sys.executable, "-c", engine, json.dumps(asked.to_json())) == -signal.SIGKILL
    await pipe.hear(2)
    executor = LocalExecutor(state)
    assert await executor.reattach() == {asked.id}
    assert (await executor.launch(asked)).known
    await executor.stop(asked.id, 5.0)
    assert (await end_of(executor)).how == "stopped"
    assert await executor.reattach() == frozenset()
    await executor.close()


@LINUX
async def test_shards_of_a_killed_launcher_die_and_are_said_to_have_vanished(
    state: StateDir, executor: LocalExecutor
) -> None:
    pipe, other = Pipe(state.root / "fifo"), Pipe(state.root / "other")
    asked = spec(state, family(pipe, child="os.setsid()"))
    await executor.launch(asked)
    await executor.launch(spec(state, "print('well')", id="well"))
    assert (await end_of(executor)).id == "well"
    await pipe.hear(2)
    first = launcher_pid(state)
    assert first is not None
    os.kill(first, signal.SIGKILL)
    event = await next_event(executor)
    assert isinstance(event, Vanished)
    assert event.id == asked.id
    await pipe.closed()  # the leader by the kernel, the grandchild by the next launcher
    again = spec(state, f"import os; os.write(os.open({str(other.path)!r}, 1), b'again\\n')", id="0001.screen.s0.a2")
    await executor.launch(again)
    await other.hear()
    assert (await end_of(executor)).id == again.id
    assert launcher_pid(state) != first


@LINUX
async def test_a_killed_launcher_takes_its_shards_along_at_once(state: StateDir, executor: LocalExecutor) -> None:
    pipe = Pipe(state.root / "fifo")
    code = f"import os, signal; os.write(os.open({str(pipe.path)!r}, 1), b'on\\n'); signal.pause()"
    await executor.launch(spec(state, code))
    await pipe.hear()
    await executor.close()  # nobody is there to start another launcher, which would clear up too
    os.kill(launcher_pid(state) or 0, signal.SIGKILL)
    await pipe.closed()


async def test_the_launcher_stands_hangups_and_answers_nonsense(state: StateDir, executor: LocalExecutor) -> None:
    await executor.reattach()
    pid = launcher_pid(state)
    assert pid is not None
    os.kill(pid, signal.SIGHUP)
    os.kill(pid, signal.SIGINT)
    requests: list[bytes] = [
        b"nonsense",
        b"[]",
        b'{"op": "sing"}',
        b'{"op": ["list"]}',
        b'{"op": "launch", "spec": {"id": "../x"}}',
        b'{"op": "launch", "spec": {"id": "x", "colour": 1}}',
        b'{"op": "stop", "id": "x", "grace_s": "long"}',
        b"[" * 5000,
        b"\xff",
    ]
    reader, writer = await asyncio.open_unix_connection(str(state.launcher_socket))
    for each in requests:
        writer.write(each + b"\n")
        answer = json.loads(await asyncio.wait_for(reader.readline(), LIMIT_S))
        assert answer["ok"] is False
        assert answer["error"]
    writer.write(b"x" * (1 << 19))
    assert json.loads(await asyncio.wait_for(reader.readline(), LIMIT_S))["ok"] is False
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(1), LIMIT_S)
    writer.close()
    assert launcher_pid(state) == pid


async def test_a_client_that_does_not_read_is_let_go(state: StateDir, executor: LocalExecutor) -> None:
    await executor.reattach()
    _, writer = await asyncio.open_unix_connection(str(state.launcher_socket), limit=1024)

    async def ask_for_ever() -> None:
        while True:
            writer.write(b'{"op": "sing"}\n' * 1000)
            await writer.drain()

    with pytest.raises(ConnectionError):
        await asyncio.wait_for(ask_for_ever(), LIMIT_S)
    writer.close()
    assert launcher_pid(state) is not None


async def test_there_is_one_launcher_however_many_ask(state: StateDir) -> None:
    await asyncio.gather(*(ensure_launcher(state) for _ in range(4)))
    pid = launcher_pid(state)
    assert await run(sys.executable, "-m", "engine.shards.launcher", "--foreground", str(state.root)) == 3
    assert launcher_pid(state) == pid
    assert json.loads(state.launcher_lock.read_text())["pid"] == pid
    assert state.launcher_socket.stat().st_mode & 0o777 == 0o600


async def test_an_engine_with_another_environment_finds_the_launcher(
    state: StateDir, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await ensure_launcher(state)
    pid = launcher_pid(state)
    with monkeypatch.context() as elsewhere:
        elsewhere.delenv("XDG_RUNTIME_DIR")
        elsewhere.setenv("TMPDIR", str(tmp_path))
        elsewhere.setattr(tempfile, "tempdir", None)
        executor = LocalExecutor(state)
        assert await executor.reattach() == frozenset()
        await executor.close()
    assert launcher_pid(state) == pid


async def test_a_removed_socket_comes_back(state: StateDir, executor: LocalExecutor) -> None:
    await executor.reattach()
    pid = launcher_pid(state)
    state.launcher_socket.unlink()  # whoever cleans temporary directories
    await executor.close()
    await ensure_launcher(state)
    assert launcher_pid(state) == pid


async def test_retiring(state: StateDir, executor: LocalExecutor) -> None:
    pipe = Pipe(state.root / "fifo")
    await executor.launch(spec(state, family(pipe)))
    await pipe.hear(2)
    with pytest.raises(ExecutorError, match="1 shards run"):
        await local._ask(state, {"op": "retire"})
    await executor.kill("0001.screen.s0.a1")
    await end_of(executor)
    await executor.close()
    await local._ask(state, {"op": "retire"})
    await asyncio.wait_for(asyncio.to_thread(wait_for_the_lock, state), LIMIT_S)


async def test_told_to_end_it_stops_its_shards_and_records_that(state: StateDir, executor: LocalExecutor) -> None:
    pipe = Pipe(state.root / "fifo")
    asked = spec(state, family(pipe))
    await executor.launch(asked)
    await pipe.hear(2)
    pid = launcher_pid(state)
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    assert (await end_of(executor)).how == "stopped"
    await pipe.closed()


def wait_for_the_lock(state: StateDir) -> None:
    """Return when no launcher holds it any more."""
    with open(state.launcher_lock) as file:
        fcntl.flock(file, fcntl.LOCK_EX)


def test_the_launcher_is_made_of_the_standard_library_alone() -> None:
    code = "import sys, engine.shards.launcher; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    shown = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=REPO, capture_output=True, text=True, check=True, timeout=LIMIT_S
    )
    foreign = set(shown.stdout.split()) - set(sys.stdlib_module_names) - {"engine", "__main__"}
    assert foreign == set()


# --- files that cannot be trusted


@pytest.mark.parametrize(
    "plant",
    [
        lambda path: None,
        lambda path: path.write_text("{"),
        lambda path: path.write_text("[" * 50_000),
        lambda path: path.write_text('{"id": "x", "how": "triumph"}'),
        lambda path: path.write_bytes(b"\xff" * 100),
        lambda path: path.write_text(" " * 100_000),
        lambda path: path.mkdir(),
        lambda path: os.mkfifo(path),
        lambda path: (path.with_name("real").write_text(json.dumps(GOOD.to_json())), path.symlink_to("real")),
    ],
)
def test_a_record_that_is_none_reads_as_none(tmp_path: Path, plant: Callable[[Path], object]) -> None:
    plant(tmp_path / "exit.json")
    assert read_exit(tmp_path) is None


GOOD = ExitRecord("x", "exited", 0, None, 1.0, 2.0, 3)


def test_a_record_of_a_later_version_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "exit.json").write_text(json.dumps(GOOD.to_json() | {"joules": 3}))
    assert read_exit(tmp_path) == GOOD


def test_a_record_that_the_launcher_did_not_write_is_none(tmp_path: Path) -> None:
    """A shard writes into its run directory, and may do so before its launcher dies."""
    key, run_dir = make_key(tmp_path / "launcher.key"), tmp_path / "runs" / "x"
    assert make_key(tmp_path / "launcher.key") == key
    run_dir.mkdir(parents=True)
    path = run_dir / "exit.json"
    path.write_bytes(sealed(GOOD, key))
    assert read_exit(run_dir) == GOOD
    honest = json.loads(path.read_text())
    for forged in (GOOD.to_json(), honest | {"code": 3}, honest | {"seal": None}, honest | {"seal": "0" * 64}):
        path.write_text(json.dumps(forged))
        assert read_exit(run_dir) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "../up"),
        ("argv", ()),
        ("argv", ("a\0b",)),
        ("cwd", "relative"),
        ("env", {"A=B": "x"}),
        ("record", "../exit.json"),
        ("timeout_s", float("nan")),
        ("timeout_s", 0),
        ("nice", -5),
        ("threads", True),
        ("isolation", "box-9"),
    ],
)
def test_a_spec_that_cannot_be_is_refused_by_the_name_of_its_field(state: StateDir, field: str, value: object) -> None:
    good = spec(state, "")
    with pytest.raises(SpecError, match=rf"^{field}: "):
        replace(good, **{field: value})


# --- the wrong tree


@pytest.fixture
def lab(state: StateDir) -> Path:
    """A researcher's checkout with a package under `lib/`, a `.venv` inside it that has the package installed editable."""
    root = state.root.parent / "my lab"
    site = root / ".venv" / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    site.mkdir(parents=True)
    (root / ".venv" / "bin").mkdir()
    (root / ".venv" / "bin" / "python").symlink_to(os.path.realpath(sys.executable))
    home = Path(sys.base_prefix) / "bin"
    (root / ".venv" / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\n")
    (site / "__editable__.nano.pth").write_text(f"{root / 'lib'}\n")
    (site / "thirdparty.py").write_text("NAME = 'third'\n")
    write_lab(root, "checkout")
    return root


def write_lab(root: Path, whose: str) -> None:
    (root / "lib" / "nano").mkdir(parents=True, exist_ok=True)
    (root / "lib" / "nano" / "__init__.py").write_text(f"WHOSE = {whose!r}\n")
    (root / "flat.py").write_text(f"WHOSE = {whose!r}\n")
    (root / "src").mkdir()
    (root / "src" / "inner.py").write_text(f"WHOSE = {whose!r}\n")


async def run_in_tree(
    state: StateDir, executor: LocalExecutor, lab: Path, code: str, lab_env: dict[str, str] | None = None
) -> tuple[Outcome, str, str]:
    tree = state.trees / "abc"
    write_lab(tree, "tree")
    (tree / "train.py").write_text(code)
    run_dir = state.runs / "a"
    env = shard_env(lab_env or {}, (), 1, (), run_dir, tree, lab_root=lab)
    asked = spec(state, "", id="a", env=env)
    python = str(lab / ".venv" / "bin" / "python")
    await executor.launch(replace(asked, argv=(python, "train.py"), cwd=str(tree)))
    record = await end_of(executor)
    return *classify(record, output(asked), Facts()), output(asked)


async def test_an_editable_install_of_the_lab_is_caught(state: StateDir, executor: LocalExecutor, lab: Path) -> None:
    outcome, why, shown = await run_in_tree(state, executor, lab, "print('begun')\nimport nano\nprint('trained')\n")
    assert outcome is Outcome.WRONG_TREE
    assert "module 'nano' was loaded from" in why
    assert str(lab / "lib" / "nano") in why
    assert "begun" in shown
    assert "trained" not in shown  # it ends before any time is spent


async def test_the_trees_own_modules_win_and_the_labs_venv_is_allowed(
    state: StateDir, executor: LocalExecutor, lab: Path
) -> None:
    code = """
import importlib.util, os, sys, types
import flat, inner, thirdparty
sys.modules["made.up"] = types.ModuleType("made.up")
sys.modules["made.up"].__file__ = "_ops.py"  # as torch does
os.chdir(os.environ["COCKPIT_LAB_ROOT"])
assert importlib.util.find_spec("nano") is not None  # to look is no fault
print(flat.WHOSE, inner.WHOSE, thirdparty.NAME, sys.path[1].endswith("abc"))
"""
    outcome, why, shown = await run_in_tree(state, executor, lab, code)
    assert (outcome, why) == (Outcome.FINISHED, ""), shown
    assert shown.split() == ["tree", "tree", "third", "True"]


async def test_the_labs_own_import_path_is_moved_into_the_tree(
    state: StateDir, executor: LocalExecutor, lab: Path
) -> None:
    lab_env = {"PYTHONPATH": str(lab / "lib")}
    outcome, _, shown = await run_in_tree(state, executor, lab, "import nano; print(nano.WHOSE)", lab_env)
    assert (outcome, shown.strip()) == (Outcome.FINISHED, "tree")


async def test_code_that_comes_in_past_the_import_system_is_caught_at_the_end(
    state: StateDir, executor: LocalExecutor, lab: Path
) -> None:
    code = f"""
import sys, types
odd = types.ModuleType("odd")
odd.__file__ = {str(lab / "flat.py")!r}
sys.modules["odd"] = odd
print("trained")
"""
    outcome, why, shown = await run_in_tree(state, executor, lab, code)
    assert (outcome, "trained" in shown) == (Outcome.WRONG_TREE, True)
    assert "'odd'" in why


async def test_a_script_run_from_the_checkout_is_caught(state: StateDir, executor: LocalExecutor, lab: Path) -> None:
    (lab / "main.py").write_text("import this_is_never_looked_for\n")
    code = f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, {str(lab / 'main.py')!r}]).returncode)"
    outcome, why, _ = await run_in_tree(state, executor, lab, code)
    assert outcome is Outcome.WRONG_TREE
    assert "'__main__'" in why


async def test_the_labs_own_sitecustomize_still_runs(state: StateDir, executor: LocalExecutor, lab: Path) -> None:
    (state.trees / "abc").mkdir()
    (state.trees / "abc" / "sitecustomize.py").write_text("print('customised')\n")
    outcome, _, shown = await run_in_tree(state, executor, lab, "import nano")
    assert outcome is Outcome.WRONG_TREE
    assert shown.startswith("customised")


def test_the_guard_loads_next_to_nothing() -> None:
    """What it costs at start is what it loads: nothing beyond what Python itself has loaded by then."""
    code = "import sys; print(*sys.modules)"

    def loaded(**more: str) -> set[str]:
        env = {"PATH": os.environ["PATH"]} | more
        shown = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True, timeout=LIMIT_S
        )
        return set(shown.stdout.split())

    guarded = loaded(PYTHONPATH=str(GUARD), COCKPIT_RUN_TREE="/t", COCKPIT_LAB_ROOT="/l")
    assert guarded - loaded() <= {"sitecustomize", "atexit", "__future__"}
