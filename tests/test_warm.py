"""Warm shards: forked from a process that has imported torch, and told apart from cold ones by nothing but their start."""

from __future__ import annotations

import asyncio
import functools
import json
import marshal
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.paths import StateDir
from engine.shards.executor import Vanished
from engine.shards.imports import library_imports, warm_imports
from engine.shards.local import LocalExecutor, _ask
from engine.shards.outcome import WRONG_TREE_CODE, Facts, classify
from engine.shards.parents import Cold, key_of
from engine.shards.sandbox import lab_box, try_level, wrap
from engine.shards.spec import ExitRecord, ShardSpec, SpecError, shard_env
from engine.types import Outcome
from tests.test_launcher import (  # noqa: F401 (two of them are fixtures)
    LIMIT_S,
    LINUX,
    Pipe,
    end_of,
    environ_of,
    executor,
    launcher_pid,
    next_event,
    output,
    state,
)

pytestmark = LINUX
LIGHT = ("orjson",)  # imports in a moment
why_not = functools.cache(try_level)
LAB = Path(__file__).parents[1] / "sample_runs" / "nanolm"


@pytest.fixture
def tree(state: StateDir) -> Path:  # noqa: F811
    """An empty run tree."""
    found = state.root / "trees" / "t"
    found.mkdir(parents=True)
    return found


def script(state: StateDir, tree: Path, code: str, id: str, **fields: Any) -> ShardSpec:  # noqa: F811
    """A shard that runs `code` as a file of the run tree."""
    name = f"{id.partition('-')[0]}.py"
    (tree / name).write_text(code)
    run_dir = state.runs / id
    env = shard_env({}, (), threads=1, gpus=(), run_dir=run_dir, tree=tree, lab_root=fields.pop("lab_root", None))
    level = fields.pop("level", 1)
    given: dict[str, Any] = {"timeout_s": 60.0, "env": env, "warm": LIGHT, "argv": (sys.executable, name, "--x", "1 2")}
    spec = ShardSpec(id=id, cwd=str(tree), run_dir=str(run_dir), **(given | fields))
    return boxed(state, spec, level)


def boxed(state: StateDir, spec: ShardSpec, level: int) -> ShardSpec:  # noqa: F811
    """The same shard in a box of that level, as the engine boxes it."""
    run_dir = Path(spec.run_dir)
    box = lab_box(
        level,  # type: ignore[arg-type]
        interpreter=sys.executable,
        tree=Path(spec.cwd),
        run_dir=run_dir,
        data=(),
        mounts=(),
        gpus=(),
        private=(state.root, state.runtime.parent),
        lab_root=state.root / "lab",
    )
    return wrap(spec, box)


async def parents(state: StateDir) -> list[dict[str, Any]]:  # noqa: F811
    """The launcher's warm parents."""
    found: list[dict[str, Any]] = (await _ask(state, {"op": "list"}))["warm"]
    return found


async def until_ready(state: StateDir) -> int:  # noqa: F811
    """Wait until there is a parent and it has imported; its process number."""
    found = await until(state, lambda found: any(each["ready"] for each in found))
    return int(found[0]["pid"])


async def until(
    state: StateDir,  # noqa: F811
    well: Callable[[list[dict[str, Any]]], bool],
) -> list[dict[str, Any]]:
    """Ask until the warm parents are as they should be."""
    async with asyncio.timeout(LIMIT_S):
        found = await parents(state)
        while not well(found):
            await asyncio.sleep(0.01)
            found = await parents(state)
    return found


async def warmed(state: StateDir, executor: LocalExecutor, like: ShardSpec) -> int:  # noqa: F811
    """Have a parent for shards like that one; its process number."""
    (Path(like.cwd) / "first.py").write_text("")
    run_dir = state.runs / "first"
    env = {name: value.replace(like.run_dir, str(run_dir)) for name, value in like.env.items()}
    inner = ((like.inner or like.argv)[0], "first.py")
    outer, walls = (
        tuple(word.replace(like.run_dir, str(run_dir)) for word in words)
        for words in (like.argv[: -len(like.inner)] if like.inner else (), like.walls)
    )
    first = replace(like, id="first", run_dir=str(run_dir), env=env, argv=(*outer, *inner), walls=walls)
    first = replace(first, inner=inner if like.inner else ())
    await executor.launch(first)
    assert (await end_of(executor)).code == 0
    return await until_ready(state)


def says(state: StateDir) -> str:  # noqa: F811
    return state.launcher_log.read_text()


def was_warm(state: StateDir, id: str) -> bool:  # noqa: F811
    return re.search(rf"{re.escape(id)} started as \d+, warm$", says(state), re.MULTILINE) is not None


async def both(
    state: StateDir,  # noqa: F811
    executor: LocalExecutor,  # noqa: F811
    tree: Path,
    code: str,
    **fields: Any,
) -> tuple[tuple[ExitRecord, str], tuple[ExitRecord, str]]:
    """Run the same script cold and warm: the record and the output of each."""
    ends = []
    for id in ("s-cold", "s-warm"):
        asked = script(state, tree, code, id, **fields)
        if id == "s-cold":
            asked = replace(asked, warm=())
        else:
            await warmed(state, executor, asked)
        await executor.launch(asked)
        ends.append((await end_of(executor), output(asked)))
        assert was_warm(state, id) is (id == "s-warm"), says(state)
    return ends[0], ends[1]


# --- as a fresh interpreter would have it


LOOK = """
import json, os, resource, signal, sys
main = sys.modules["__main__"]
def is_open(number):
    try:
        return os.fstat(number) is not None
    except OSError:
        return False
print(json.dumps({
    "argv": sys.argv, "orig": sys.orig_argv, "cwd": os.getcwd(), "file": __file__, "name": __name__, "path": sys.path,
    "spec": __spec__, "package": __package__, "doc": __doc__, "cached": __cached__, "same": main.__dict__ is globals(),
    "loader": type(__loader__).__name__, "names": sorted(globals()), "flags": list(sys.flags), "exe": sys.executable,
    "env": {k: v.replace("s-warm", "s-cold") for k, v in os.environ.items()}, "umask": os.umask(0o022),
    "nice": os.getpriority(os.PRIO_PROCESS, 0),
    "cores": sorted(os.sched_getaffinity(0)), "core": resource.getrlimit(resource.RLIMIT_CORE),
    "leads": [os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid()], "stdin": os.read(0, 1).decode(),
    "open": [f for f in range(200) if is_open(f)], "hash": hash("cockpit"),
    "stdout": [sys.stdout.encoding, sys.stdout.errors, sys.stdout.line_buffering, sys.stdout.write_through],
    "term": str(signal.getsignal(signal.SIGTERM)), "int": str(signal.getsignal(signal.SIGINT)),
    "pipe": str(signal.getsignal(signal.SIGPIPE)), "guard": "sitecustomize" in sys.modules,
    "c_env": os.popen("env | sort | grep -v -e ^_= -e ^PWD -e ^SHLVL").read().replace("s-warm", "s-cold"),
}))
'''a docstring that is none'''
"""


@pytest.fixture(params=[1, 2, 3], ids=["limits", "box2", "box3"])
def level(request: pytest.FixtureRequest) -> int:
    """Each isolation level in turn; skipped by name where this machine cannot."""
    reason = why_not(request.param) if request.param > 1 else None
    if reason is not None:
        pytest.skip(f"no box {request.param} here: {reason}")
    return int(request.param)


@pytest.mark.parametrize("guarded", [False, True])
async def test_a_script_finds_itself_as_a_fresh_interpreter_would_have_it(
    state: StateDir,  # noqa: F811
    executor: LocalExecutor,  # noqa: F811
    tree: Path,
    level: int,
    guarded: bool,
) -> None:
    core = min(os.sched_getaffinity(0))
    (tree / "src").mkdir()
    lab = state.root / "lab" if guarded else None
    cold, warm = await both(state, executor, tree, LOOK, level=level, nice=3, cores=(core,), lab_root=lab)
    seen, expected = json.loads(warm[1]), json.loads(cold[1])
    if level == 3:  # a cold one is not the first process of its box
        assert (expected.pop("leads"), seen["leads"]) == ([False, False], [True, True])
    for name in expected:
        assert seen[name] == expected[name], name
    assert (warm[0].code, warm[0].how, warm[0].pid is not None) == (0, "exited", True)
    assert warm[0].cpu_s > 0


ENDINGS = {
    "crash": "def f():\n    raise ValueError('no')\n\ntry:\n    f()\nexcept ValueError as e:\n    raise KeyError('k') from e",
    "syntax": "x = 1\nif x\n    pass\n",
    "group": "raise ExceptionGroup('several', [ValueError(1), TypeError(2)])",
    "note": "e = RuntimeError('x')\ne.add_note('look here')\nraise e",
    "exit": "import sys; sys.exit(7)",
    "none": "raise SystemExit",
    "text": "import sys; print('out'); sys.exit('a reason')",
    "large": "import sys; sys.exit(256 + 5)",
    "negative": "import sys; sys.exit(-1)",
    "object": "import sys; sys.exit((1, 2))",
    "killed": "import os; os.kill(os.getpid(), 9)",
    "terminated": "import os, signal; os.kill(os.getpid(), signal.SIGTERM); signal.pause()",
    "interrupted": "raise KeyboardInterrupt",
    "hook": "import sys; sys.excepthook = lambda *a: print('mine', a[0].__name__, a[2].tb_lineno); 1 / 0",
    "atexit": "import atexit; atexit.register(print, 'at exit'); print('now')",
    "thread": "from threading import Timer; Timer(0.1, print, ['late']).start(); print('soon')",
    "unflushed": "import sys; sys.stdout.write('no newline')",
    "file": "import os\nf = open(os.environ['COCKPIT_RUN_DIR'] + '/kept', 'w'); f.write('kept')\n",
    "main": "import pickle\nclass A: pass\nprint(__name__, type(pickle.loads(pickle.dumps(A()))))",
}


async def test_it_ends_as_a_fresh_interpreter_would_with_the_same_words(
    state: StateDir,  # noqa: F811
    executor: LocalExecutor,  # noqa: F811
    tree: Path,
    level: int,
) -> None:
    like = script(state, tree, "", "like", level=level)
    await warmed(state, executor, like)
    for name, code in ENDINGS.items():
        found = []
        for warm in ((), LIGHT):
            asked = script(state, tree, code, f"end_{name}-{len(warm)}", level=level, warm=warm)
            await executor.launch(asked)
            record, said = await end_of(executor), output(asked)
            died = record.code if record.signal is None else 128 + record.signal  # as box 3 has it of a cold one
            found.append((died, said, classify(record, said, Facts())))
        assert found[0] == found[1], name
        assert was_warm(state, f"end_{name}-1"), name
    assert (state.runs / "end_file-1" / "kept").read_text() == "kept"


async def test_the_script_is_compiled_once_for_all_shards_of_a_tree(
    state: StateDir,  # noqa: F811
    executor: LocalExecutor,  # noqa: F811
    tree: Path,
) -> None:
    await warmed(state, executor, script(state, tree, "", "like"))
    cache = state.root / "cache"
    cache.mkdir()

    async def say(id: str, code: str) -> str:
        asked = script(state, tree, code, id)
        await executor.launch(replace(asked, env={**asked.env, "COCKPIT_CACHE_DIR": str(cache)}))
        assert (await end_of(executor)).code == 0
        assert was_warm(state, id)
        return output(asked)

    assert await say("a-1", "print('one')") == "one\n"
    (kept,) = cache.iterdir()
    before = kept.read_bytes()
    assert await say("a-2", "print('one')") == "one\n"
    assert [each.read_bytes() for each in cache.iterdir()] == [before]
    kept.write_bytes(marshal.dumps(compile("print('as kept')", "a.py", "exec")))
    assert await say("a-3", "print('one')") == "as kept\n"
    kept.write_bytes(b"nothing that could be read")
    assert await say("a-4", "print('one')") == "one\n"
    assert await say("a-5", "print('two')") == "two\n"
    assert len(list(cache.iterdir())) == 2


# --- the sample lab


@pytest.fixture(scope="module")
def nanolm(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The sample lab's tree with a small version of its data."""
    pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    place = tmp_path_factory.mktemp("nanolm")
    for name in ("train.py", "data.py", "probes.py", "prepare.py", "mix.toml"):
        shutil.copy(LAB / name, place)
    words = ("prepare.py", "--open", place / "open", "--held", place / "held", "--max-bytes", "400000")
    subprocess.run([sys.executable, *map(str, words)], cwd=place, check=True, capture_output=True, timeout=120)
    return SimpleNamespace(tree=place, data=place / "open")


def training(state: StateDir, nanolm: SimpleNamespace, id: str, seed: int = 0) -> ShardSpec:  # noqa: F811
    run_dir = state.runs / id
    words = ("--seed", seed, "--steps", 4, "--data", nanolm.data, "--out", run_dir)
    argv = (sys.executable, "train.py", *map(str, words), "--metrics", str(run_dir / "metrics.jsonl"))
    env = shard_env({}, (), threads=1, gpus=(), run_dir=run_dir, tree=nanolm.tree)
    warm = warm_imports(True, sys.executable, argv, nanolm.tree)
    cwd = str(nanolm.tree)
    return ShardSpec(id=id, argv=argv, cwd=cwd, env=env, run_dir=str(run_dir), timeout_s=60.0, warm=warm)


def losses(asked: ShardSpec) -> list[Any]:
    """Losses and gradient norms, and what was reported at the end, to the last bit (JSON keeps doubles)."""
    lines = [json.loads(line) for line in (Path(asked.run_dir) / "metrics.jsonl").read_text().splitlines()]
    kept = ("step", "loss", "grad_norm", "first_loss", "val_bpb", "data_order")
    return [[{**each, **each.get("summary", {})}.get(name) for name in kept] for each in lines]


async def test_the_loss_is_the_same_to_the_last_bit(
    state: StateDir,  # noqa: F811
    executor: LocalExecutor,  # noqa: F811
    nanolm: SimpleNamespace,
) -> None:
    first = training(state, nanolm, "cold")
    assert {"safetensors", "safetensors.torch", "torch", "torch.nn.functional", "tomllib"} <= set(first.warm)
    await executor.launch(first)
    assert (await end_of(executor)).code == 0
    assert not was_warm(state, "cold")
    await until_ready(state)
    for id, seed in (("again", 0), ("other", 1), ("third", 0)):
        await executor.launch(training(state, nanolm, id, seed))
        assert (await end_of(executor)).code == 0, output(training(state, nanolm, id))
        assert was_warm(state, id)
    assert losses(training(state, nanolm, "again")) == losses(first) == losses(training(state, nanolm, "third"))
    assert losses(training(state, nanolm, "other")) != losses(first)
    same = [(state.runs / id / "final.safetensors").read_bytes() for id in ("cold", "again")]
    assert same[0] == same[1]


async def test_siblings_do_not_share_their_luck(
    state: StateDir,  # noqa: F811
    executor: LocalExecutor,  # noqa: F811
    tree: Path,
) -> None:
    pytest.importorskip("torch")
    code = (
        "import random, numpy, torch, tempfile\n"
        "print(random.random(), numpy.random.rand(), torch.rand(1).item(), torch.initial_seed())\n"
        "print(torch.get_num_threads(), tempfile.gettempdir())"
    )
    warm = ("numpy", "torch")
    await warmed(state, executor, script(state, tree, code, "like", warm=warm))
    said = []
    for id in ("a", "b"):
        asked = script(state, tree, code, id, warm=warm)
        asked = replace(asked, env={**asked.env, "OMP_NUM_THREADS": "2"})
        await executor.launch(asked)
        assert (await end_of(executor)).code == 0, output(asked)
        assert was_warm(state, id)
        said.append(output(asked).split())
        assert said[-1][-2:] == ["2", str(Path(asked.run_dir) / "tmp")]
    assert all(one != other for one, other in zip(said[0][:4], said[1][:4], strict=True))


# --- ended like any other


async def test_a_warm_shard_is_launched_once_stopped_and_out_of_time(
    state: StateDir,  # noqa: F811
    executor: LocalExecutor,  # noqa: F811
    tree: Path,
) -> None:
    await warmed(state, executor, script(state, tree, "", "like"))
    asked = script(state, tree, "import signal; signal.pause()", "stopped")
    handle = await executor.launch(asked)
    again = await executor.launch(asked)
    assert (handle.known, again.known, again.where) == (False, True, handle.where)
    assert await executor.stop("stopped", 20.0)
    record = await end_of(executor)
    assert (record.how, record.signal, f"pid {record.pid}") == ("stopped", signal.SIGTERM, handle.where)
    asked = script(state, tree, "import signal; signal.pause()", "late", timeout_s=0.3)
    await executor.launch(asked)
    assert (await end_of(executor)).how == "timeout"
    assert was_warm(state, "stopped")
    assert was_warm(state, "late")


async def test_what_a_warm_shard_forked_away_dies_with_it(
    state: StateDir,  # noqa: F811
    executor: LocalExecutor,  # noqa: F811
    tree: Path,
) -> None:
    await warmed(state, executor, script(state, tree, "", "like"))
    pipe = Pipe(state.root / "fifo")
    code = (
        f"import os, signal\nfd = os.open({str(pipe.path)!r}, os.O_WRONLY)\nr, w = os.pipe()\n"
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        os.setsid()\n"
        "        os.write(fd, b'away\\n')\n        os.write(w, b'.')\n        signal.pause()\n    os._exit(0)\n"
        "os.wait()\nos.read(r, 1)\n"  # a shard that ends sooner takes it along before it has said anything
    )
    asked = script(state, tree, code, "forker")
    await executor.launch(asked)
    assert await pipe.hear() == ["away"]
    assert (await end_of(executor)).code == 0
    await pipe.closed()
    assert was_warm(state, "forker")


async def test_a_killed_launcher_takes_parents_and_shards_along(
    state: StateDir,  # noqa: F811
    executor: LocalExecutor,  # noqa: F811
    tree: Path,
) -> None:
    await executor.reattach()
    parent = os.pidfd_open(await warmed(state, executor, script(state, tree, "", "like")))
    pipe = Pipe(state.root / "fifo")
    code = f"import os, signal; os.write(os.open({str(pipe.path)!r}, os.O_WRONLY), b'up\\n'); signal.pause()"
    handle = await executor.launch(script(state, tree, code, "shard"))
    assert await pipe.hear() == ["up"]
    assert was_warm(state, "shard")
    shard = os.pidfd_open(int(handle.where.removeprefix("pid ")))
    pid = launcher_pid(state)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await pipe.closed()
    for each in (parent, shard):
        await asyncio.wait_for(gone(each), LIMIT_S)
    assert isinstance(await next_event(executor), Vanished)


async def gone(pidfd: int) -> None:
    """Wait until the process of that descriptor has ended."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(pidfd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)


# --- what it must not see


async def test_the_import_guard_stands_in_warm_shards(
    state: StateDir,  # noqa: F811
    executor: LocalExecutor,  # noqa: F811
    tree: Path,
) -> None:
    lab = state.root / "lab"
    (lab / "pkg").mkdir(parents=True)
    (lab / "pkg" / "__init__.py").write_text("")
    code = f"import sys; sys.path.insert(0, {str(lab)!r}); import pkg; print('ran')"
    cold, warm = await both(state, executor, tree, code, lab_root=lab)
    assert cold[0].code == warm[0].code
    assert cold[1] == warm[1]
    assert classify(warm[0], warm[1], Facts())[0] is Outcome.WRONG_TREE


async def test_no_secret_shows_in_a_parent_or_its_forks(
    state: StateDir,  # noqa: F811
    executor: LocalExecutor,  # noqa: F811
    tree: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("ANTHROPIC_API_KEY", "MY_SECRET", "UNRELATED"):
        monkeypatch.setenv(name, "hush-hush")
    pid = await warmed(state, executor, script(state, tree, "", "like"))
    code = "import sys; sys.stdout.write(open('/proc/self/environ').read())"
    asked = script(state, tree, code, "shard")
    await executor.launch(asked)
    assert (await end_of(executor)).code == 0
    shown = dict(each.split("=", 1) for each in output(asked).rstrip("\0").split("\0"))
    assert was_warm(state, "shard")
    assert {name: shown[name] for name in asked.env} == dict(asked.env)
    assert shown["COCKPIT_LAUNCH"] == str(Path(asked.run_dir) / "exit.json")
    assert set(shown) - set(asked.env) <= {"COCKPIT_LAUNCH", "LC_CTYPE"}
    assert "hush-hush" not in output(asked)
    assert b"hush-hush" not in environ_of(pid)


# --- when there is no warm way


@pytest.mark.parametrize(
    ("module", "why"),
    [
        ("import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()", "it has 2 threads"),
        ("kept = open('/dev/null')", "left files or sockets open"),
        ("raise RuntimeError('no such device')", "no such device"),
    ],
)
async def test_an_unfit_parent_is_retired_and_shards_start_cold(
    state: StateDir,  # noqa: F811
    executor: LocalExecutor,  # noqa: F811
    tree: Path,
    module: str,
    why: str,
    tmp_path: Path,
) -> None:
    home = tmp_path / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    home.mkdir(parents=True)
    (home / "oddity.py").write_text(module)
    python = venv(tmp_path)
    asked = script(state, tree, "", "a", warm=("oddity",), argv=(str(python), "a.py"))
    for id in ("a", "b", "c"):
        asked = script(state, tree, "print('ran')", id, warm=("oddity",), argv=(str(python), f"{id}.py"))
        await executor.launch(asked)
        assert (await end_of(executor)).code == 0
        assert output(asked) == "ran\n"
        await until(state, lambda found: all(each["ready"] for each in found))
    assert why in says(state)
    assert not any(was_warm(state, id) for id in "abc")
    assert "starts cold" in says(state)
    assert await parents(state) == []


def venv(place: Path) -> Path:
    """A virtual environment around the packages in `place`; its interpreter."""
    (place / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).resolve().parent}\n")
    (place / "bin").mkdir()
    (place / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    return place / "bin" / "python"


def distribution(place: Path, leads_to: Path) -> Path:
    """A virtual environment's interpreter around a Python as Debian and Ubuntu ship it: beside the standard library lies a
    sitecustomize that is a link to elsewhere."""
    real = Path(os.__file__).resolve().parent
    library = place / "lib" / real.name
    library.mkdir(parents=True)
    for each in real.iterdir():
        if each.name not in ("sitecustomize.py", "site-packages", "dist-packages", "__pycache__"):
            (library / each.name).symlink_to(each)
    leads_to.parent.mkdir(parents=True, exist_ok=True)
    leads_to.write_text("import sys\nvars(sys)['seen'] = vars(sys).get('seen', 0) + 1\n")
    (library / "sitecustomize.py").symlink_to(leads_to)
    (place / "bin").mkdir()
    (place / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    environment = place.parent / "venv"
    environment.mkdir()
    python = venv(environment)
    (environment / "pyvenv.cfg").write_text(f"home = {place / 'bin'}\n")
    return python


async def test_a_distributions_sitecustomize_keeps_no_parent_from_being_forked_and_is_run_anew_in_each_fork(
    state: StateDir,  # noqa: F811
    executor: LocalExecutor,  # noqa: F811
    tree: Path,
    tmp_path: Path,
) -> None:
    python = distribution(tmp_path / "usr", tmp_path / "etc" / "python3" / "sitecustomize.py")
    code = "import sys, fractions; print(sys.modules['sitecustomize'].__file__, sys.seen > 0, sys._cockpit_checked > 0)"

    def asked(id: str) -> ShardSpec:
        return script(state, tree, code, id, warm=("fractions",), argv=(str(python), f"{id.partition('-')[0]}.py"))

    await warmed(state, executor, asked("like"))
    await executor.launch(asked("s-warm"))
    assert (await end_of(executor)).code == 0
    assert was_warm(state, "s-warm"), says(state)
    origin, *rest = output(asked("s-warm")).split()
    assert Path(origin).is_relative_to(tmp_path / "usr")
    assert rest == ["True", "True"]


async def test_a_sitecustomize_that_leads_to_the_checkout_stops_warm_shards_as_it_stops_cold_ones(
    state: StateDir,  # noqa: F811
    executor: LocalExecutor,  # noqa: F811
    tree: Path,
    tmp_path: Path,
) -> None:
    lab = tmp_path / "lab"
    python = distribution(tmp_path / "usr", lab / "sitecustomize.py")
    for id in ("a", "b"):
        asked = script(
            state, tree, "import fractions", id, warm=("fractions",), argv=(str(python), f"{id}.py"), lab_root=lab
        )
        await executor.launch(asked)
        assert (await end_of(executor)).code == WRONG_TREE_CODE, says(state)
        assert "wrong tree" in output(asked)
        await until(state, lambda found: all(each["ready"] for each in found))
    assert was_warm(state, "b"), says(state)


async def test_a_dead_parent_is_replaced_and_installing_a_package_retires_it(
    state: StateDir,  # noqa: F811
    executor: LocalExecutor,  # noqa: F811
    tree: Path,
    tmp_path: Path,
) -> None:
    home = tmp_path / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    home.mkdir(parents=True)
    (home / "library.py").write_text("version = 1")
    python = venv(tmp_path)

    def asked(id: str) -> ShardSpec:
        code = "import library; print(library.version)"
        return script(state, tree, code, id, warm=("library",), argv=(str(python), f"{id}.py"))

    first = await warmed(state, executor, asked("like"))
    await executor.launch(asked("a"))
    assert (await end_of(executor)).code == 0
    assert was_warm(state, "a")
    os.kill(first, signal.SIGKILL)
    await until(state, lambda found: not found)
    await executor.launch(asked("b"))
    assert (await end_of(executor)).code == 0
    assert await until_ready(state) != first
    await executor.launch(asked("again"))
    assert (await end_of(executor)).code == 0
    assert was_warm(state, "again")
    (home / "library.py").write_text("version = 22")
    (home / "another.py").write_text("")
    for id, warm in (("c", False), ("d", False), ("e", True)):
        await executor.launch(asked(id))
        assert (await end_of(executor)).code == 0
        assert output(asked(id)) == "22\n"
        if warm:
            assert was_warm(state, id)
        elif id == "d":
            await until_ready(state)
    assert "installed packages changed" in says(state)


WORN = """
import os, selectors, sys
from engine.shards import parents, process
from engine.shards.spec import ShardSpec
parents.FORKS = 2
process.adopt_orphans()
selector = selectors.DefaultSelector()
pool = parents.Parents(selector, print)
log = os.open(os.devnull, os.O_WRONLY)
def start(n):
    argv = (sys.executable, "a.py")
    place = {"cwd": os.getcwd(), "run_dir": f"/run{n}"}
    asked = pool.ask(ShardSpec(id=f"s{n}", argv=argv, env={}, timeout_s=9, warm=("orjson",), **place), log)
    return asked and pool.start(asked)
def serve():
    for key, mask in selector.select(30): key.data(mask)
def end(pid):
    found, status = os.waitpid(pid, 0)
    pool.reaped(found, status)
    return status
assert start(0) is None
serve()
seen = []
for n in range(1, 4):
    forked = start(n)
    assert forked is not None, n
    assert end(forked.pid) == 0
    seen.append(pool.listed()[0]["pid"])
while pool.listed()[0]["pid"] == seen[0]: serve()
forked = start(4)
assert forked is not None and end(forked.pid) == 0
end(seen[0])
last = pool.listed()[0]
assert last["forks"] == 1 and last["ready"], last
pool.close()
end(last["pid"])
"""


def test_a_worn_parent_serves_until_its_successor_is_ready(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("")
    env = {**os.environ, "PYTHONPATH": str(LAB.parents[1])}
    words = [sys.executable, "-c", WORN]
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


async def test_a_tree_that_has_a_module_of_a_loaded_name_starts_cold(
    state: StateDir,  # noqa: F811
    executor: LocalExecutor,  # noqa: F811
    tree: Path,
) -> None:
    await warmed(state, executor, script(state, tree, "", "like"))
    (tree / "orjson.py").write_text("name = 'ours'")
    asked = script(state, tree, "import orjson; print(orjson.name)", "a")
    await executor.launch(asked)
    assert (await end_of(executor)).code == 0
    assert output(asked) == "ours\n"
    assert not was_warm(state, "a")
    assert [each["ready"] for each in await parents(state)] == [True]


def test_other_commands_and_run_specific_variables_are_for_the_cold_path(state: StateDir, tree: Path) -> None:  # noqa: F811
    like = script(state, tree, "", "a")
    assert key_of(like) == key_of(script(state, tree, "", "b", nice=3))
    for argv in (("python", "a.py"), (sys.executable,), (sys.executable, "-O", "a.py"), (sys.executable, "/a.py")):
        with pytest.raises(Cold):
            key_of(replace(like, argv=argv))
    for argv in ((sys.executable, "../a.py"), (sys.executable, "./a.py"), (sys.executable, "a.sh")):
        with pytest.raises(Cold):
            key_of(replace(like, argv=argv))
    with pytest.raises(Cold, match="WANDB_DIR"):
        key_of(replace(like, env={**like.env, "WANDB_DIR": f"{like.run_dir}/wandb"}))
    assert key_of(replace(like, env={**like.env, "HF_HOME": "/x"})) != key_of(like)
    with pytest.raises(SpecError, match="warm"):
        replace(like, warm=("os; import this",))


def test_what_a_script_imports_from_third_parties(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "__init__.py").write_text("from . import inner\nimport einops")
    (tmp_path / "data.py").write_text("import numpy as np, json")
    (tmp_path / "train.py").write_text(
        "from __future__ import annotations\nimport os, torch.nn.functional as F\nimport data\nfrom model import GPT\n"
        "try:\n    import flash_attn\nexcept ImportError:\n    pass\n"
        "def later():\n    import wandb\nos.environ['X'] = '1'\n"
    )
    found = ("__future__", "einops", "flash_attn", "json", "numpy", "os", "torch.nn.functional")
    assert library_imports(tmp_path, "train.py") == found
    assert warm_imports(True, "/p", ("/p", "train.py", "--x"), tmp_path) == found
    assert warm_imports(False, "/p", ("/p", "train.py"), tmp_path) == ()
    assert warm_imports(True, "/p", ("/q", "train.py"), tmp_path) == ()
    assert warm_imports(True, "/p", ("/p", "-P", "train.py"), tmp_path) == ()
    assert warm_imports(True, "/p", ("/p", "missing.py"), tmp_path) == ()
    (tmp_path / "early.py").write_text("import os\nos.environ['PYTORCH_CUDA_ALLOC_CONF'] = 'x'\nimport torch\n")
    assert library_imports(tmp_path, "early.py") == ()
    (tmp_path / "bad.py").write_text("import torch\nif\n")
    assert library_imports(tmp_path, "bad.py") == ()
