"""Compile caches: seeds of one tree share one, a new tree begins with the trunk's, and what an experiment writes stays."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.shards.caches import Caches, seed
from engine.shards.local import LocalExecutor
from engine.shards.sandbox import wrap
from engine.shards.spec import ShardSpec, shard_env
from tests import test_launcher as launching
from tests import test_sandbox as boxing
from tests.test_launcher import end_of, output
from tests.test_sandbox import Place
from tests.tinylab import TinyLab, better, decide, rows, wait_for, waiting

state, executor, place, level = boxing.state, boxing.executor, boxing.place, boxing.level
LATER = 60.0
COMPILE_S = 300


@pytest.fixture
def caches(tmp_path: Path) -> Caches:
    return Caches(tmp_path / "caches", settled_s=0.0)


def shard_with(place: Place, cache: Path, code: str, level: int, id: str) -> ShardSpec:
    """A boxed shard that runs the Python `code` with that compile cache."""
    plain = place.spec("", 1, id=id)
    run_dir = Path(plain.run_dir)
    env = shard_env({}, (), 1, (), run_dir, place.tree, lab_root=place.state.root, cache=cache)
    (place.tree / f"{id}.py").write_text(code)
    plain = replace(plain, argv=(sys.executable, f"{id}.py"), env=env)
    box = place.box(level, run_dir)
    return wrap(plain, replace(box, writable=(*box.writable, cache)) if level > 1 else box)


async def run(executor: LocalExecutor, shard: ShardSpec) -> str:
    await executor.launch(shard)
    assert (await end_of(executor)).code == 0, output(shard)
    return output(shard)


# --- what a hostile experiment can reach

POISON = """
import os, sys
own = os.environ["TORCHINDUCTOR_CACHE_DIR"]
os.makedirs(own, exist_ok=True)
open(os.path.join(own, "kernel.so"), "w").write("poison")
for name in {others!r}:
    for path in (name, os.path.join(name, "inductor"), os.path.join(own, "..", "..", os.path.basename(name))):
        try:
            print("sees", os.listdir(path))
        except OSError:
            pass
        try:
            open(os.path.join(path, "kernel.so"), "w").write("poison")
            print("wrote into", path)
        except OSError:
            pass
        try:
            os.symlink(path, os.path.join(own, "link"))
        except OSError:
            pass
"""


async def test_a_poisoned_cache_stays_with_the_tree_that_poisoned_it(
    place: Place, executor: LocalExecutor, level: int
) -> None:
    caches = Caches(place.state.caches, settled_s=0.0)
    trunk = caches.ready("aaa", trunk=True, parents=[])
    (trunk / "inductor").mkdir()
    (trunk / "inductor" / "kernel.so").write_text("good")
    sibling = caches.ready("ccc", trunk=False, parents=["aaa"])
    mine = caches.ready("bbb", trunk=False, parents=["aaa"])
    assert (mine / "inductor" / "kernel.so").read_text() == "good"
    code = POISON.format(others=[str(trunk), str(sibling)])
    assert await run(executor, shard_with(place, mine, code, level, "poisoner")) == ""
    assert (mine / "inductor" / "kernel.so").read_text() == "poison"
    for each in (trunk, sibling, caches.ready("ddd", trunk=False, parents=["aaa"])):
        assert (each / "inductor" / "kernel.so").read_text() == "good"
    # a person merges it, and its tree becomes the trunk's: what it left behind does not
    merged = caches.ready("bbb", trunk=True, parents=["aaa"])
    assert (merged / "inductor" / "kernel.so").read_text() == "good"
    # and what lies in an experiment's cache seeds nobody, whoever asks
    assert list(caches.ready("eee", trunk=False, parents=["ccc"]).iterdir()) == []


async def test_seeds_of_one_tree_share_their_cache(place: Place, executor: LocalExecutor, level: int) -> None:
    caches = Caches(place.state.caches, settled_s=0.0)
    code = """
import os
path = os.path.join(os.environ["TRITON_CACHE_DIR"], "kernel")
print(open(path).read() if os.path.exists(path) else "compiles")
os.makedirs(os.path.dirname(path), exist_ok=True)
open(path, "w").write("compiled")
"""
    said = []
    for id in ("s0", "s1"):
        cache = caches.ready("bbb", trunk=False, parents=["aaa"])
        said.append(await run(executor, shard_with(place, cache, code, level, id)))
    assert said == ["compiles\n", "compiled\n"]


COMPILE = """
import json, os, sys
import torch
from torch._dynamo.utils import counters
torch.manual_seed(0)
@torch.compile
def tiny(x, y):
    return (torch.sin(x) * y + x.square()).sum()
print(tiny(torch.randn(64), torch.randn(64)).item().hex())
print(json.dumps({name: counters["inductor"][name] for name in ("fxgraph_cache_hit", "fxgraph_cache_miss")}))
"""


def built(cache: Path) -> dict[str, int]:
    """The libraries that a compiler has made, and when, in nanoseconds."""
    found = [each for each in cache.rglob("*") if each.suffix == ".so"]
    return {str(each.relative_to(cache)): each.stat().st_mtime_ns for each in found}


@pytest.mark.slow
async def test_the_second_shard_does_not_compile_again_nor_does_an_experiment(
    place: Place, executor: LocalExecutor, level: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr(launching, "LIMIT_S", COMPILE_S)
    if shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler")
    if level == 2:
        pytest.skip("torch.compile's worker processes need /dev/shm")
    caches = Caches(place.state.caches, settled_s=0.0)

    async def compiled(id: str, tree: str, trunk: bool) -> tuple[str, dict[str, Any], dict[str, int]]:
        cache = caches.ready(tree, trunk=trunk, parents=["aaa"])
        shard = replace(shard_with(place, cache, COMPILE, level, id), timeout_s=COMPILE_S)
        said = (await run(executor, shard)).splitlines()
        return said[-2], json.loads(said[-1]), built(cache)

    value, first, libraries = await compiled("s0", "aaa", True)
    assert first == {"fxgraph_cache_hit": 0, "fxgraph_cache_miss": 1}
    assert libraries
    for id, tree, trunk in (("s1", "aaa", True), ("e0", "bbb", False)):
        again, counts, now = await compiled(id, tree, trunk)
        assert counts == {"fxgraph_cache_hit": 1, "fxgraph_cache_miss": 0}, id
        assert now == libraries, id
        assert again == value


# --- what is copied


def test_only_plain_settled_files_are_copied(tmp_path: Path) -> None:
    source, target, outside = (tmp_path / each for each in ("source", "target", "outside"))
    for each in (source / "deep" / "er", target, outside):
        each.mkdir(parents=True)
    (outside / "secret").write_text("secret")
    (source / "deep" / "er" / "kernel.so").write_bytes(b"x" * 3_000_000)
    (source / "deep" / "er" / "kernel.so").chmod(0o755)
    os.utime(source / "deep" / "er" / "kernel.so", ns=(5, 1_700_000_000_123_456_789))
    (source / "link").symlink_to(outside / "secret")
    (source / "directory").symlink_to(outside)
    os.link(outside / "secret", source / "hard")
    os.mkfifo(source / "pipe")
    (source / "fresh").write_text("half of it")
    settled = time.time() + LATER
    os.utime(source / "fresh", (settled + 1, settled + 1))
    assert seed(source, target, settled)
    found = {str(each.relative_to(target)) for each in target.rglob("*")}
    assert found == {"deep", "deep/er", "deep/er/kernel.so"}
    copy = target / "deep" / "er" / "kernel.so"
    assert copy.read_bytes() == b"x" * 3_000_000
    assert (copy.stat().st_mode & 0o777, copy.stat().st_mtime_ns) == (0o700, 1_700_000_000_123_456_789)
    copy.write_text("poison")
    assert (source / "deep" / "er" / "kernel.so").read_bytes() == b"x" * 3_000_000


@pytest.mark.parametrize("limits", [{"most": 9}, {"files": 1}])
def test_a_cache_that_is_too_large_is_not_copied(caches: Caches, tmp_path: Path, limits: dict[str, int]) -> None:
    source = caches.ready("aaa", trunk=True, parents=[])
    for name in ("a", "b"):
        (source / name).write_text("12345")
    (tmp_path / "all").mkdir()
    (tmp_path / "target").mkdir()
    settled = time.time() + LATER
    assert seed(source, tmp_path / "all", settled)
    assert not seed(source, tmp_path / "target", settled, **limits)


def test_a_cache_beyond_the_cap_leaves_the_new_one_empty(caches: Caches) -> None:
    source = caches.ready("aaa", trunk=True, parents=[])
    (source / "a").write_text("small")
    with (source / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    assert list(caches.ready("bbb", trunk=False, parents=["aaa"]).iterdir()) == []
    assert {each.name for each in caches.root.iterdir()} == {"trunk-aaa", "bbb"}


def test_what_an_engine_left_half_made_is_made_anew(caches: Caches) -> None:
    (caches.root / "making-bbb").mkdir(parents=True)
    (caches.root / "making-bbb" / "half").touch()
    assert list(caches.ready("bbb", trunk=False, parents=[]).iterdir()) == []


def test_scoring_always_begins_with_an_empty_cache(caches: Caches) -> None:
    (caches.scoring("0001.screen.s0.a1") / "left").touch()
    assert list(caches.scoring("0001.screen.s0.a1").iterdir()) == []
    caches.scored("0001.screen.s0.a1")
    assert list(caches.root.iterdir()) == []


# --- the whole engine

# Says what it finds in its cache, and leaves its mark there.
MARK = """
def mark(who):
    import os
    cache = os.environ["TORCHINDUCTOR_CACHE_DIR"]
    os.makedirs(cache, exist_ok=True)
    print(who, "finds", sorted(os.listdir(cache)))
    open(os.path.join(cache, who), "w").close()

"""


def test_a_lab_keeps_a_cache_a_tree_and_lets_go_of_it(tiny: Callable[..., TinyLab]) -> None:
    lab = tiny(better(1), slots=1)
    script, main = (lab.root / "train.py").read_text(), 'if __name__ == "__main__":\n'
    (lab.root / "train.py").write_text(script.replace(main, f"{MARK}{main}    mark(f'rate {{RATE}}')\n"))
    script = (lab.root / "score.py").read_text()
    (lab.root / "score.py").write_text(f"{script}{MARK}mark('scoring')\n")
    lab.git("commit", "-qam", "Leave marks")
    with lab.session() as session:
        decide(session, wait_for(lambda: waiting(session))[0])

        def judged() -> list[dict[str, Any]]:
            found = rows(session, "experiment").values()
            return [row for row in found if row["role"] == "experiment" and row["state"] == "judged"]

        (arm,) = wait_for(judged)
        wait_for(lambda: all(row["state"] == "ended" for row in rows(session, "shard").values()))
        trunk = next(row for row in rows(session, "experiment").values() if row["role"] == "trunk")
        said: dict[str, list[str]] = {trunk["id"]: [], arm["id"]: []}
        for row in sorted(rows(session, "shard").values(), key=lambda row: float(row["started"])):
            run_dir = lab.state.runs / row["id"]
            said[row["experiment"]].append((run_dir / "output.log").read_text().splitlines()[0])
            assert "scoring finds []\n" in (run_dir / "score.log").read_text()
        assert said[trunk["id"]][:2] == ["rate 1.0 finds []", "rate 1.0 finds ['rate 1.0']"]
        assert "rate 3.0" not in said[arm["id"]][0].partition("finds")[2]
        assert all("'rate 3.0'" in each for each in said[arm["id"]][1:])
        found = {each.name: set(os.listdir(each / "inductor")) for each in lab.state.caches.iterdir()}
        assert set(found) == {f"trunk-{trunk['tree']}", arm["tree"]}
        assert found[f"trunk-{trunk['tree']}"] == {"rate 1.0"}  # nothing of the experiment's
        session.call("gc")
        assert [each.name for each in lab.state.caches.iterdir()] == [f"trunk-{trunk['tree']}"]
