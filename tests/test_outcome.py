"""How a shard ended, told from its exit record, the end of its log and what its metrics showed; and which slots there are."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.shards import outcome
from engine.shards.guard import sitecustomize as guard
from engine.shards.outcome import Facts, classify
from engine.shards.slots import cpus_here, detect, gpus_here, parse_list, slots_here
from engine.shards.spec import ExitRecord, How
from engine.types import Outcome

GIB = 2**30
ENDED_WELL = ExitRecord("0001.screen.s0.a1", "exited", 0, None, started=100.0, ended=130.0, pid=7)


def exited(code: int) -> ExitRecord:
    return replace(ENDED_WELL, code=code)


def by_signal(number: int, max_rss: int = 0) -> ExitRecord:
    return replace(ENDED_WELL, code=None, signal=number, max_rss=max_rss)


CRASH = """step 3 loss 5.1
Traceback (most recent call last):
  File "/trees/ab/train.py", line 12, in <module>
    main()
  File "/trees/ab/train.py", line 9, in main
    x @ w
RuntimeError: mat1 and mat2 shapes cannot be multiplied (4x8 and 4x8)
"""
CHAINED = """Traceback (most recent call last):
  File "a.py", line 1, in <module>
KeyError: 'lr'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "a.py", line 3, in <module>
    raise Unhappy("no lr")
lab.Unhappy: no lr
"""
RANKS = """[rank0]: Traceback (most recent call last):
[rank0]:   File "train.py", line 3, in <module>
[rank0]: ValueError: heads must divide width
Traceback (most recent call last):
  File "/bin/torchrun", line 8, in <module>
torch.distributed.elastic.multiprocessing.errors.ChildFailedError: train.py FAILED
"""
OOM = CRASH.replace(
    "RuntimeError: mat1 and mat2 shapes cannot be multiplied (4x8 and 4x8)",
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
)
CPU_OOM = "RuntimeError: [enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you"

TABLE = [
    # record, log, facts, outcome, what the detail says
    (exited(0), "step 300\n", Facts(), Outcome.FINISHED, ""),
    (exited(0), "handled: CUDA out of memory, halving the batch\n", Facts(), Outcome.FINISHED, ""),
    (exited(0), "", Facts(nonfinite=True, last_step=12), Outcome.NONFINITE, "last step 12"),
    (exited(3), "", Facts(), Outcome.NONFINITE, "not finite"),
    (replace(ENDED_WELL, how="timeout", code=None, signal=15), "", Facts(nonfinite=True), Outcome.NONFINITE, ""),
    (
        replace(ENDED_WELL, how="timeout", code=None, signal=15),
        "",
        Facts(last_step=80),
        Outcome.TIMEOUT,
        "last step 80",
    ),
    (replace(ENDED_WELL, how="timeout", code=0), "", Facts(), Outcome.TIMEOUT, "30 s"),
    (replace(ENDED_WELL, how="stopped", code=None, signal=9), OOM, Facts(), Outcome.KILLED, "stopped after 30 s"),
    (
        replace(ENDED_WELL, how="start-failed", code=None, error="no python9"),
        "",
        Facts(),
        Outcome.LOST,  # the machine's or the lab file's fault: it is tried once more, and no experiment is blamed
        "no python9",
    ),
    (
        exited(1),
        CRASH,
        Facts(),
        Outcome.CRASHED,
        "RuntimeError: mat1 and mat2 shapes cannot be multiplied (4x8 and 4x8)",
    ),
    (exited(1), CRASH + "\nwandb: synced 3 files\n", Facts(), Outcome.CRASHED, "RuntimeError: mat1 and mat2"),
    (exited(1), CHAINED, Facts(), Outcome.CRASHED, "lab.Unhappy: no lr"),
    (exited(1), RANKS, Facts(), Outcome.CRASHED, "ValueError: heads must divide width"),
    (
        exited(1),
        '  File "train.py", line 3\n    x = = 1\nSyntaxError: invalid syntax\n',
        Facts(),
        Outcome.CRASHED,
        "SyntaxError",
    ),
    (exited(1), "loss exploded\nFAIL\n", Facts(), Outcome.CRASHED, "FAIL"),
    (exited(2), "", Facts(), Outcome.CRASHED, "ended with exit code 2 and said nothing"),
    (exited(1), OOM, Facts(), Outcome.OOM, "torch.OutOfMemoryError: CUDA out of memory."),
    (exited(1), CPU_OOM, Facts(), Outcome.OOM, "DefaultCPUAllocator: can't allocate"),
    (exited(1), "Traceback (most recent call last):\n  File x\nMemoryError\n", Facts(), Outcome.OOM, "MemoryError"),
    (by_signal(signal.SIGKILL, 15 * GIB), "", Facts(memory=16 * GIB), Outcome.OOM, "15.0 GiB of memory, of 16.0"),
    (by_signal(signal.SIGKILL, 2 * GIB), "", Facts(memory=16 * GIB), Outcome.KILLED, "SIGKILL"),
    (by_signal(signal.SIGTERM), "", Facts(), Outcome.KILLED, "SIGTERM"),
    (exited(137), "", Facts(), Outcome.KILLED, "SIGKILL"),
    (by_signal(signal.SIGSEGV), "epoch 1\n", Facts(), Outcome.CRASHED, "SIGSEGV; its last line: epoch 1"),
    (exited(97), "", Facts(), Outcome.WRONG_TREE, "import guard"),
    (
        exited(97),
        "hello\n\ncockpit: wrong tree: module 'nanolm' was loaded from '/home/me/lab/nanolm.py'\n",
        Facts(nonfinite=True),
        Outcome.WRONG_TREE,
        "module 'nanolm' was loaded from '/home/me/lab/nanolm.py'",
    ),
    (
        exited(1),
        "[rank1]: cockpit: wrong tree: module 'm' was loaded from '/l/m.py'\n",
        Facts(),
        Outcome.WRONG_TREE,
        "'m'",
    ),
]


@pytest.mark.parametrize(("record", "log", "facts", "wanted", "says"), TABLE)
def test_a_shards_end_is_typed_and_explained(
    record: ExitRecord, log: str, facts: Facts, wanted: Outcome, says: str
) -> None:
    found, detail = classify(record, log, facts)
    assert found is wanted
    assert says in detail
    assert (detail == "") == (found is Outcome.FINISHED)


def test_the_guard_and_the_classifier_speak_of_the_same_mark() -> None:
    assert (guard.MARK, guard.EXIT_CODE) == (outcome.WRONG_TREE_MARK, outcome.WRONG_TREE_CODE)


@settings(max_examples=150, deadline=None)
@given(
    st.text(max_size=400)
    | st.lists(st.sampled_from([CRASH, OOM, "\x1b]52;c;YQ==\x07", "\r", "Traceback"])).map("".join),
    st.integers(-3, 300),
    st.sampled_from(["exited", "timeout", "stopped", "start-failed"]),
)
def test_no_log_can_break_the_line_that_is_shown(log: str, code: int, how: str) -> None:
    _, detail = classify(replace(ENDED_WELL, how=how, code=code, error=log), log, Facts())  # type: ignore[arg-type]
    assert len(detail) <= outcome.DETAIL
    assert detail.isprintable()


# --- slots


def test_a_cpu_machine_gives_each_shard_cores_of_its_own() -> None:
    assert [slot.cores for slot in detect("auto", [0, 1, 2, 3, 4], [], threads=2)] == [(0, 1), (2, 3)]
    assert [slot.gpus for slot in detect("auto", [0, 1], [], threads=1)] == [(), ()]
    assert [slot.cores for slot in detect("auto", [5], [], threads=4)] == [()]  # one slot even here, not pinned


def test_asking_for_more_slots_than_cores_pins_nobody() -> None:
    assert [slot.cores for slot in detect(3, [0, 1], [], threads=1)] == [(), (), ()]


def test_a_gpu_machine_has_one_slot_a_gpu_and_splits_its_cores() -> None:
    slots = detect(0, list(range(8)), ["GPU-a", "GPU-b"], threads=1)
    assert [slot.gpus for slot in slots] == [("GPU-a",), ("GPU-b",)]
    assert [slot.cores for slot in slots] == [(0, 1, 2, 3), (4, 5, 6, 7)]
    assert [slot.gpus for slot in detect(3, [0], ["0", "1"], threads=1)] == [("0",), ("1",), ("0",)]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 20), st.integers(0, 64), st.integers(0, 8), st.integers(1, 8))
def test_pinned_slots_never_share_a_core(requested: int, cores: int, gpus: int, threads: int) -> None:
    slots = detect(requested, list(range(cores)), [str(n) for n in range(gpus)], threads)
    taken = [core for slot in slots for core in slot.cores]
    assert len(taken) == len(set(taken)) <= cores
    assert len(slots) == (requested or gpus or max(1, cores // threads))
    assert all(len(slot.cores) >= threads or not slot.cores for slot in slots)


def test_what_cuda_visible_devices_allows_is_kept_to() -> None:
    assert gpus_here({"CUDA_VISIBLE_DEVICES": ""}) == []
    assert gpus_here({"CUDA_VISIBLE_DEVICES": "2, 0"}) == ["2", "0"]
    assert gpus_here({"CUDA_VISIBLE_DEVICES": "0,-1,1"}) == ["0"]
    assert gpus_here({"CUDA_VISIBLE_DEVICES": "GPU-1f2e,MIG-77"}) == ["GPU-1f2e", "MIG-77"]


def test_a_partitioned_gpu_is_used_in_its_parts() -> None:
    shown = (
        "GPU 0: NVIDIA H200 (UUID: GPU-aa)\n"
        "GPU 1: NVIDIA H200 (UUID: GPU-bb)\n"
        "  MIG 1g.18gb     Device  0: (UUID: MIG-b1)\n"
        "  MIG 1g.18gb     Device  1: (UUID: MIG-b2)\n"
    )
    assert parse_list(shown) == ["GPU-aa", "MIG-b1", "MIG-b2"]


def test_this_machine_has_slots() -> None:
    assert len(cpus_here()) >= 1
    assert len(slots_here("auto", 1)) >= 1


@pytest.mark.parametrize(("how", "outcome"), [("preempted", Outcome.PREEMPTED), ("node-lost", Outcome.NODE_LOST)])
def test_what_the_cluster_took_is_no_fault_of_the_code(how: How, outcome: Outcome) -> None:
    taken = ExitRecord("s", how, None, None, 10.0, 40.0, None, error="its node n1 is down")
    found, detail = classify(taken, "Traceback (most recent call last):\nKeyError: 1\n", Facts(last_step=12))
    assert (found, detail) == (outcome, "its node n1 is down, after 30 s, last step 12")
    assert not found.own_fault
    assert classify(taken, "", Facts(nonfinite=True))[0] is Outcome.NONFINITE  # that would come again


@pytest.mark.parametrize("how", ["stopped", "timeout", "node-lost", "preempted"])
def test_a_clock_that_was_set_back_makes_no_shard_last_less_than_nothing(how: How) -> None:
    back = ExitRecord("s", how, None, None, 1000.0, 400.0, None, error="its node n1 is down")
    assert back.lasted_s == 0.0
    assert "after 0 s" in classify(back, "", Facts())[1]
