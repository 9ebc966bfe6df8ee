"""Histories in the shapes that people really leave behind: each line is a run, or is said not to be."""

from __future__ import annotations

import json
import sqlite3
import zlib
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from struct import pack

import duckdb
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.history.database import make_tables
from engine.history.imported import IMPORTED, put_import
from engine.history.importers import IMPORTERS, ImportRefused, Reading, body_of, guess, read, sources
from engine.history.importers.child import packed, unpacked
from engine.history.importers.wire import masked_crc32c

NOWHERE = Path("/nowhere")


def reading_of(text: str | bytes, name: str, mapping: Mapping[str, str] | None = None, format: str = "") -> Reading:
    body = text.encode() if isinstance(text, str) else text
    found = read(name, NOWHERE, body, format, mapping)
    assert found.account.whole
    return found


def outcomes(found: Reading) -> list[tuple[str, float | None]]:
    return [(run.outcome, run.metric) for run in found.runs]


def puzzles(found: Reading) -> list[tuple[int, int]]:
    return [(each.line, each.last) for each in found.problems]


# --- results.tsv -------------------------------------------------------------------------------------------------------

FIVE = "commit\tval_bpb\tmemory_gb\tstatus\tdescription\n"


def test_a_crash_stored_as_zero_is_a_crash_and_has_no_metric() -> None:
    found = reading_of(
        f"{FIVE}aaaa111\t0.99\t44.0\tkeep\tbaseline\nbbbb222\t0.000000\t0.0\tcrash\twide\n", "results.tsv"
    )
    assert found.format == "autoresearch"
    assert outcomes(found) == [("finished", 0.99), ("crashed", None)]
    assert found.runs[1].stored == "0.000000"
    assert (found.segments[0].metric, found.segments[0].direction) == ("val_bpb", "min")


@pytest.mark.parametrize(
    ("cell", "status", "description", "outcome"),
    [
        ("DIVERGED", "discard", "", "diverged"),
        ("NaN", "discard", "", "nonfinite"),
        ("inf", "keep", "", "nonfinite"),
        ("n/a", "crash", "CUDA out of memory", "oom"),
        ("n/a", "keep", "", "lost"),
        ("0", "discard", "stopped by hand", "killed"),
        ("0.0", "keep", "", "crashed"),
        ("1.02", "timeout", "", "timeout"),
        ("-", "discard", "timed out", "timeout"),
    ],
)
def test_what_stands_for_a_failure_becomes_a_typed_outcome(
    cell: str, status: str, description: str, outcome: str
) -> None:
    found = reading_of(f"{FIVE}aaaa111\t{cell}\t44.0\t{status}\t{description}\n", "results.tsv")
    assert outcomes(found) == [(outcome, None)]
    assert found.runs[0].detail


def test_ragged_comma_and_prose_lines_are_each_placed() -> None:
    text = (
        f"# my night\n{FIVE}"
        "aaaa111\t0.99\t44.0\tkeep\tbaseline\n"
        "bbbb222\t0.98\tkeep\tno memory here\n"
        "cccc333\t0.97\n"
        "dddd444,0.96,44.0,keep,commas, and more commas\n"
        "eeee555\t0.95\t44.0\tkeep\ta tab\tin words\n"
        "I think the learning rate is too high, will try lower\n"
        "\n"
        "ffff666\t0.94\t44.0\t12\tkeep\tone column more\n"
    )
    found = reading_of(text, "results.tsv")
    assert [run.metric for run in found.runs] == [0.99, 0.98, 0.97, 0.96, 0.95, 0.94]
    assert found.runs[1].description == "no memory here"
    assert found.runs[3].description == "commas, and more commas"
    assert found.runs[4].description == "a tab\tin words"
    assert found.runs[5].description == "one column more"
    assert puzzles(found) == [(8, 8)]
    assert (found.account.comments, found.account.header) == (2, 1)


def test_a_comment_header_states_the_metric_and_its_direction() -> None:
    text = "# metric: accuracy (higher is better)\ncommit\taccuracy\tval_loss\tstatus\tdescription\n"
    text += "aaaa111\t0.7\t2.0\tkeep\tx\n"
    found = reading_of(text, "results.tsv")
    assert (found.segments[0].metric, found.segments[0].direction) == ("accuracy", "max")
    assert found.runs[0].metric == 0.7
    assert found.runs[0].further == {"val_loss": 2.0}


def test_another_header_in_the_middle_begins_a_segment() -> None:
    text = f"{FIVE}aaaa111\t0.99\t44.0\tkeep\tx\n{FIVE}commit\tval_loss\tstatus\tdescription\nbbbb222\t3.1\tkeep\ty\n"
    found = reading_of(text, "results.tsv")
    assert [(each.metric, each.line) for each in found.segments] == [("val_bpb", 1), ("val_loss", 4)]
    assert [run.segment for run in found.runs] == [0, 1]
    assert found.account.header == 3


def test_a_table_without_a_header_is_read_as_the_usual_five_columns() -> None:
    found = reading_of("aaaa111\t0.99\t44.0\tkeep\tbaseline\n", "results.tsv")
    assert outcomes(found) == [("finished", 0.99)]
    assert any("no header" in note for note in found.notes)


# --- pi-autoresearch ---------------------------------------------------------------------------------------------------


def config(name: str, metric: str, way: str) -> str:
    return (
        json.dumps({"type": "config", "name": name, "metricName": metric, "metricUnit": "", "bestDirection": way})
        + "\n"
    )


def trial(run: int, metric: float, status: str = "keep", **more: object) -> str:
    return (
        json.dumps(
            {"run": run, "commit": "abc1234", "metric": metric, "metrics": {"steps": 9}, "status": status, **more}
        )
        + "\n"
    )


def test_config_lines_begin_segments_with_their_own_direction() -> None:
    text = (
        config("size", "val_bpb", "lower") + trial(1, 2.0) + config("speed", "tok", "higher") + trial(2, 9.0) + "oops\n"
    )
    found = reading_of(text, "autoresearch.jsonl")
    assert found.format == "pi-autoresearch"
    assert [(each.metric, each.direction) for each in found.segments] == [("val_bpb", "min"), ("tok", "max")]
    assert [(run.segment, run.metric, run.steps) for run in found.runs] == [(0, 2.0, 9), (1, 9.0, 9)]
    assert puzzles(found) == [(5, 5)]


def test_a_crash_keeps_its_reason_and_loses_its_stand_in() -> None:
    asi = {"error": "wallclock timeout", "arch": "9L"}
    found = reading_of(
        config("s", "val_bpb", "lower") + trial(1, 999, "crash", asi=asi, timestamp=1777144208804), "a.jsonl"
    )
    run = found.runs[0]
    assert (run.outcome, run.metric, run.stored, run.detail) == ("timeout", None, "999", "wallclock timeout")
    assert (run.params["arch"], run.t) == ("9L", 1777144208.804)


# --- any table, any JSON -----------------------------------------------------------------------------------------------


def test_success_without_a_metric_is_a_failure_and_an_imputed_one_too() -> None:
    lines = [
        {"trial_id": 0, "config": {"lr": 0.1}, "val_bpb": 0.99, "success": True, "error": None, "seed": 0},
        {
            "trial_id": 1,
            "config": {"lr": 0.2},
            "val_bpb": 100.0,
            "success": False,
            "error": "GPU out-of-memory",
            "seed": 0,
        },
        {"trial_id": 2, "config": {"lr": 0.3}, "val_bpb": None, "success": True, "error": None, "seed": 1},
        {"trial_id": 3, "config": {"lr": 0.4}, "val_bpb": 1.31, "success": False, "error": "imputed", "seed": 1},
        {"trial_id": 4, "config": {"lr": 0.5}, "val_bpb": 999, "success": True, "error": None, "seed": 1},
    ]
    found = reading_of("".join(json.dumps(each) + "\n" for each in lines), "trials.jsonl")
    assert outcomes(found) == [("finished", 0.99), ("oom", None), ("lost", None), ("crashed", None), ("crashed", None)]
    assert [run.seed for run in found.runs] == [0, 0, 1, 1, 1]
    assert found.runs[0].params == {"lr": 0.1}


def test_a_mapping_says_which_column_is_which() -> None:
    text = "arm;outcome;rng;wer\nbase;ok;7;0.31\nwide;ok;8;0.29\n"
    found = reading_of(
        text, "runs.csv", {"metric": "wer", "seed": "rng", "group": "arm", "direction": "min", "unit": "%"}
    )
    assert [(run.metric, run.seed, run.group) for run in found.runs] == [(0.31, 7, "base"), (0.29, 8, "wide")]
    assert found.segments[0].unit == "%"


def test_quoted_cells_and_a_quote_that_never_closes() -> None:
    text = 'name,val_loss,notes\na,1.5,"one, two"\nb,1.4,"two\nlines"\nc,1.3,"never closed\nd,1.2,fine\n'
    found = reading_of(text, "runs.csv")
    assert [(run.name, run.metric) for run in found.runs] == [("a", 1.5), ("b", 1.4), ("d", 1.2)]
    assert found.runs[1].description == "two\nlines"
    assert puzzles(found) == [(5, 5)]
    assert found.account.run == 4


def test_lists_of_final_losses_are_runs_that_share_a_name() -> None:
    found = reading_of('{"track/one": [3.27, 3.28], "track/two": [null, 3.1, "x"]}', "final-val-losses.json")
    assert [(run.group, run.outcome, run.metric) for run in found.runs] == [
        ("track/one", "finished", 3.27),
        ("track/one", "finished", 3.28),
        ("track/two", "lost", None),
        ("track/two", "finished", 3.1),
    ]
    assert puzzles(found) == [(5, 5)]
    assert found.segments[0].metric == "val_loss"


def test_lines_with_a_step_are_points_and_the_last_metric_is_the_runs() -> None:
    text = '{"summary": {"parameters": 12}}\n{"step": 0, "loss": 3.0, "val_loss": 3.1}\n{"step": 1, "loss": 2.0}\nx\n'
    text += '{"step": 2, "val_loss": 2.5}\n{"step": 3}\n'
    found = reading_of(text, "metrics.jsonl")
    assert (outcomes(found), len(found.curves)) == ([("finished", 2.5)], 4)
    assert (found.account.measured, found.account.left_out, found.account.comments) == (3, 1, 1)
    assert found.runs[0].further["parameters"] == 12


# --- TensorBoard -------------------------------------------------------------------------------------------------------


def field(number: int, body: bytes) -> bytes:
    assert len(body) < 16384
    size = bytes((len(body),)) if len(body) < 128 else bytes((len(body) & 127 | 128, len(body) >> 7))
    return bytes((number << 3 | 2,)) + size + body


def event(step: int, **values: float) -> bytes:
    """An `Event` as TensorBoard's writer makes it; `t` of 1000 s + step."""
    inner = b"".join(field(1, field(1, tag.encode()) + b"\x15" + pack("<f", value)) for tag, value in values.items())
    return b"\x09" + pack("<d", 1e9 + step) + (b"\x10" + bytes((step,)) if step else b"") + field(5, inner)


def tfrecord(body: bytes) -> bytes:
    head = pack("<Q", len(body))
    return head + pack("<I", masked_crc32c(head)) + body + pack("<I", masked_crc32c(body))


VERSION = tfrecord(b"\x09" + pack("<d", 1e9) + field(3, b"brain.Event:2"))


def test_the_checksum_is_the_one_that_everybody_knows() -> None:
    crc = masked_crc32c(b"123456789")
    assert crc == ((0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_scalars_of_an_event_file_are_points() -> None:
    body = VERSION + b"".join(tfrecord(event(step, val_bpb=1.0 - step / 8, lr=0.5)) for step in range(4))
    found = reading_of(body, "events.out.tfevents.1")
    assert found.format == "tensorboard"
    assert (outcomes(found), len(found.curves)) == ([("finished", 0.625)], 8)
    assert list(found.curves.step) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert found.runs[0].t == 1e9


WRITTEN_BY_TENSORBOARDX = (
    "GAAAAAAAAACjf0siCROxzTIvwtpBGg1icmFpbi5FdmVudDoy56HSrBsAAAAAAAAAGg2eEwkAAADgTqzaQSoQCg4KB3ZhbF9icGIVAACAP1UHvacdAAAA"
    "AAAAAGAv3yMJAABA4E6s2kEQASoQCg4KB3ZhbF9icGIVAABgP8h7Q+EdAAAAAAAAAGAv3yMJAACA4E6s2kEQAioQCg4KB3ZhbF9icGIVAABAP2g3Mf8="
)


def test_what_tensorboardx_2_6_wrote_is_read() -> None:
    found = reading_of(b64decode(WRITTEN_BY_TENSORBOARDX), "events.out.tfevents.1")
    assert (list(found.curves.step), list(found.curves.value)) == ([0, 1, 2], [1.0, 0.875, 0.75])
    assert (list(found.curves.t), found.account.header) == ([1.79e9, 1.79e9 + 1, 1.79e9 + 2], 1)


def test_a_tensor_of_one_number_is_a_scalar_too() -> None:
    tensor = b"\x08\x01" + field(2, b"") + field(4, pack("<f", 0.5))
    value = field(1, b"val_loss") + field(8, tensor)
    found = reading_of(VERSION + tfrecord(b"\x10\x03" + field(5, field(1, value))), "events.out.tfevents.1")
    assert outcomes(found) == [("finished", 0.5)]


def test_a_damaged_record_costs_itself_and_a_torn_end_is_said() -> None:
    good = [tfrecord(event(step, val_bpb=1.0)) for step in range(4)]
    broken = good[1][:20] + bytes((good[1][20] ^ 255,)) + good[1][21:]
    found = reading_of(VERSION + good[0] + broken + good[2] + good[3][:-3], "events.out.tfevents.1")
    assert (len(found.curves), puzzles(found)) == (2, [(3, 3), (5, 5)])
    assert found.problems[0].why == "the checksum is wrong"


# --- Weights & Biases --------------------------------------------------------------------------------------------------


def wandb_file(records: Sequence[bytes]) -> bytes:
    """A file in the log format of W&B: records in pieces that do not cross blocks of 32 KiB."""
    out = bytearray(b":W&B\xe1\xbe\x00")
    for record in records:
        rest, first = record, True
        while True:
            room = 32768 - len(out) % 32768
            if room < 7:
                out += bytes(room)
                continue
            piece, rest = rest[: room - 7], rest[room - 7 :]
            kind = (1 if first else 4) if not rest else (2 if first else 3)
            out += pack("<IHB", zlib.crc32(bytes((kind,)) + piece), len(piece), kind) + piece
            first = False
            if not rest:
                break
    return bytes(out)


def logged(step: int, **values: float | str) -> bytes:
    told = [
        (key.encode(), json.dumps(value).encode()) for key, value in {**values, "_step": step, "_runtime": 7}.items()
    ]
    items = [field(1, field(1, key) + b"\x82\x01" + bytes((len(text),)) + text) for key, text in told]
    return field(2, b"".join(items) + field(2, b"\x08" + bytes((step,))))


def wandb_run() -> bytes:
    items = b"".join(
        field(1, field(1, k) + b"\x82\x01" + bytes((len(v),)) + v) for k, v in ((b"lr", b"0.1"), (b"seed", b"3"))
    )
    parts = field(1, b"abc") + field(3, b"project") + field(4, items) + field(6, b"arm") + field(8, b"baseline")
    return b"\x8a\x01" + bytes((len(parts),)) + parts


ENDED = b"\x92\x01\x04\x08\x00\x10\x09"
FAILED = b"\x92\x01\x04\x08\x01\x10\x09"


def test_an_offline_file_tells_the_run_its_config_and_its_history() -> None:
    records = [
        wandb_run(),
        *[logged(step, loss=3.0 - step / 64, val_bpb=1.0 - step / 128) for step in range(100)],
        ENDED,
    ]
    found = reading_of(wandb_file(records), "run-abc.wandb")
    run = found.runs[0]
    assert (run.name, run.group, run.seed, run.params["lr"], run.outcome) == ("baseline", "arm", 3, 0.1, "finished")
    assert (run.metric, len(found.curves), run.seconds) == (1.0 - 99 / 128, 200, 7.0)


HISTORY_BY_WANDB = (
    "CAkSeQoLEgVfc3RlcIIBATAKChIEbG9zc4IBATMKDRIHdmFsX2JwYoIBATEKDBIDc3ViEgF4ggEBMAolEgpfdGltZXN0YW1wggEWMS43OTU3MzI1NTUx"
    "MDgxMDUyZSswOQoYEghfcnVudGltZYIBCzAuMjIyNzA1ODU2EgA="
)
EXIT_BY_WANDB = "CMcXggEOIgwwcHd4anl1Yjk3ZGTCDAoKCDR5YnFzN3ZvkgEA"


def test_records_that_wandb_0_31_wrote_are_read() -> None:
    found = reading_of(wandb_file([b64decode(HISTORY_BY_WANDB), b64decode(EXIT_BY_WANDB)]), "run-abc.wandb")
    names = list(found.curves.names)
    assert {names[m]: v for m, v in zip(found.curves.metric, found.curves.value, strict=True)} == {
        "loss": 3.0,
        "val_bpb": 1.0,
        "sub.x": 0.0,
    }
    assert outcomes(found) == [("finished", 1.0)]
    assert (found.curves.t[0], found.runs[0].seconds) == (1795732555.1081052, 0.222705856)


@pytest.mark.parametrize(("end", "outcome"), [([], "lost"), ([FAILED], "crashed")])
def test_a_run_that_failed_or_never_ended_has_no_metric(end: list[bytes], outcome: str) -> None:
    found = reading_of(wandb_file([wandb_run(), logged(0, val_bpb=1.0), *end]), "run-abc.wandb")
    assert outcomes(found) == [(outcome, None)]
    assert len(found.curves) == 1


def test_a_record_across_blocks_is_whole_and_damage_costs_its_block() -> None:
    long = field(4, b"x" * 16000)
    body = wandb_file([wandb_run(), long, long, long, *[logged(0, val_bpb=0.5)] * 600, ENDED])
    assert len(body) > 65536
    assert len(reading_of(body, "run-abc.wandb").curves) == 600
    broken = body[:20000] + bytes((body[20000] ^ 255,)) + body[20001:]
    found = reading_of(broken, "run-abc.wandb")
    assert found.account.not_understood >= 1
    assert len(found.curves) == 600
    assert found.runs[0].outcome == "finished"


def test_a_file_cut_off_while_it_was_written_says_so() -> None:
    body = wandb_file([wandb_run(), logged(0, val_bpb=0.5), logged(1, val_bpb=0.4)])
    found = reading_of(body[:-5], "run-abc.wandb")
    assert (len(found.curves), puzzles(found)) == (1, [(3, 3)])


# --- MLflow ------------------------------------------------------------------------------------------------------------


def mlflow(path: Path) -> Path:
    store = sqlite3.connect(path)
    store.executescript("""
        CREATE TABLE experiments (experiment_id INTEGER, name VARCHAR);
        CREATE TABLE runs (
            run_uuid VARCHAR, name VARCHAR, status VARCHAR, start_time BIGINT, end_time BIGINT, experiment_id INTEGER
        );
        CREATE TABLE metrics (key VARCHAR, value DOUBLE, timestamp BIGINT, run_uuid VARCHAR, step BIGINT, is_nan BOOLEAN);
        CREATE TABLE params (key VARCHAR, value VARCHAR, run_uuid VARCHAR);
        CREATE TABLE tags (key VARCHAR, value VARCHAR, run_uuid VARCHAR);
        INSERT INTO experiments VALUES (0, 'Default'), (1, 'sweep');
        INSERT INTO runs VALUES ('a', 'one', 'FINISHED', 1790000000000, 1790000060000, 1),
            ('b', 'two', 'FAILED', NULL, NULL, 1),
            ('c', 'three', 'FINISHED', NULL, NULL, 1), ('d', 'four', 'RUNNING', NULL, NULL, 0);
        INSERT INTO metrics VALUES ('val_loss', 2.0, 1, 'a', 0, 0), ('val_loss', 1.5, 2, 'a', 1, 0),
            ('val_loss', 1.0, 2, 'b', 1, 0), ('val_loss', 0.0, 3, 'c', 0, 1), ('val_loss', 1.0, 3, 'gone', 0, 0);
        INSERT INTO params VALUES ('seed', '4', 'a'), ('lr', '0.1', 'a');
        INSERT INTO tags VALUES ('mlflow.source.git.commit', 'abcdef1', 'a');
    """)
    store.close()
    return path


def test_an_mlflow_store_gives_its_experiments_as_segments(tmp_path: Path) -> None:
    path = mlflow(tmp_path / "mlflow.db")
    found = read(path.name, path, body_of(path))
    assert found.account.whole
    assert [(run.name, run.segment, run.outcome, run.metric) for run in found.runs] == [
        ("one", 0, "finished", 1.5),
        ("two", 0, "crashed", None),
        ("three", 0, "nonfinite", None),
        ("four", 1, "lost", None),
    ]
    assert [each.name for each in found.segments] == ["sweep", "Default"]
    first = found.runs[0]
    assert (first.seed, first.params["lr"], first.commit, first.seconds) == (4, "0.1", "abcdef1", 60.0)
    assert found.account.not_understood == 1


def test_a_store_whose_tables_are_views_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    store = sqlite3.connect(path)
    store.executescript("""
        CREATE TABLE metrics (key, value, timestamp, run_uuid, step);
        CREATE VIEW runs AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x AS run_uuid FROM n;
    """)
    store.close()
    found = read(path.name, path, body_of(path))
    assert (found.runs, found.account.not_understood, found.account.whole) == ([], 1, True)


# --- bounds ------------------------------------------------------------------------------------------------------------


def test_links_devices_and_directories_are_no_sources(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "x")
    for path, why in (
        (tmp_path / "link", "symbolic link"),
        (Path("/dev/zero"), "no plain file"),
        (tmp_path, "no plain file"),
    ):
        with pytest.raises(ImportRefused, match=why):
            body_of(path)


def test_a_directory_gives_the_sources_below_it(tmp_path: Path) -> None:
    for name in ("a/events.out.tfevents.1", "b/run-1.wandb", "b/notes.md", "results.tsv", ".git/results.tsv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [str(each.relative_to(tmp_path)) for each in sources(tmp_path)] == [
        "results.tsv", "a/events.out.tfevents.1", "b/run-1.wandb",
    ]  # fmt: skip
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImportRefused, match="holds no event file"):
        sources(tmp_path / "empty")


def test_a_line_beyond_the_cap_is_listed_and_the_next_one_read() -> None:
    text = f"name,val_loss\na,1.0\n{'x' * 2_000_000},1\nb,2.0\n"
    found = reading_of(text, "runs.csv")
    assert ([run.name for run in found.runs], puzzles(found)) == (["a", "b"], [(3, 3)])
    assert len(found.problems[0].text) <= 200


def test_control_characters_are_harmless_wherever_they_stand() -> None:
    bad = "\x1b]0;x\x07"
    record = {"val_loss": 1.0, "name": bad, f"k{bad}": bad, "status": bad, "notes": bad}
    found = reading_of(json.dumps(record) + "\n", "r.jsonl")
    assert "\\x1b" not in repr((found.runs, found.notes, found.segments))
    assert found.runs[0].name == "␛]0;x␇"


def test_a_metric_beyond_any_number_is_no_metric() -> None:
    found = reading_of('{"val_loss": 1e999}\n{"val_loss": ' + "9" * 400 + "}\n" + "[" * 100_000 + "\n", "r.jsonl")
    assert found.runs[0].outcome == "nonfinite"
    assert all(run.metric is None for run in found.runs)
    assert puzzles(found)[-1] == (3, 3)


HEADS = (b"SQLite format 3\x00", b":W&B\xe1\xbe\x00", b"a,val_loss\n", b"x,1.0\n", FIVE.encode())
LINES = (b'{"type":"config"}\n', b'{"step": 1, "val_loss": 2.0}\n', b'{"run": 1, "metric": 3, "status": "keep"}\n')
SIGNS = (*b'\t,"\n{}[]:#|', *b"\x00\xff")
SAID = (b"\r\n", b'"step"', b'"val_loss"', b"NaN", b"1e999", b"0.0", b"keep", b"crash", b'"\\ud800"')
RECORDS = (VERSION, tfrecord(event(1, loss=1.0)), wandb_file([wandb_run(), logged(0, loss=1.0)]))
WORDS = st.sampled_from(
    [bytes((each,)) if isinstance(each, int) else each for each in (*HEADS, *LINES, *SIGNS, *SAID, *RECORDS)]
)
BYTES = st.one_of(
    st.binary(max_size=400), st.lists(st.one_of(WORDS, st.binary(max_size=12)), max_size=40).map(b"".join)
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "source"


@pytest.mark.parametrize("format", list(IMPORTERS))
@settings(max_examples=150, deadline=None)
@given(body=BYTES)
def test_any_bytes_end_in_a_report_that_accounts_for_all(place: Path, format: str, body: bytes) -> None:
    place.write_bytes(body)
    found = read("source", place, body, format)
    assert found.account.whole
    assert found.account.not_understood == sum(each.last - each.line + 1 for each in found.problems) + found.unlisted
    if found.account.unit == "lines":
        text = body.removeprefix(b"\xef\xbb\xbf")
        assert found.account.total == text.count(b"\n") + (not text.endswith(b"\n") and text != b"")
    assert all(run.metric is None or run.outcome == "finished" for run in found.runs)
    assert body or not found.runs
    raw = orjson.dumps(packed(found))
    columns = b"".join(bytes(getattr(found.curves, name)) for name in ("run", "metric", "step", "t", "value"))
    assert orjson.dumps(packed(unpacked(orjson.loads(raw), memoryview(columns)))) == raw


@pytest.fixture(scope="module")
def history() -> Iterator[duckdb.DuckDBPyConnection]:
    con = duckdb.connect()
    make_tables(con)
    yield con
    con.close()


@settings(max_examples=60, deadline=None)
@given(body=BYTES, format=st.sampled_from(list(IMPORTERS)))
def test_whatever_was_read_can_be_written_and_read_again(
    place: Path, history: duckdb.DuckDBPyConnection, format: str, body: bytes
) -> None:
    place.write_bytes(body)
    found = read("source", place, body, format)
    entry = {"id": "i1", "event": 1, "t": 1.0, "name": "source", "format": format, "body": "b", "size": len(body)}
    for _ in range(2):
        put_import(history, {**entry, "mapping": {}, "who": {"name": "Ada"}}, found, {})
        counts = [history.sql(f"SELECT count(*) FROM {table}").fetchall() for table in IMPORTED]
        assert [int(count) for ((count,),) in counts[:5]] == [
            1, len(found.segments), len(found.runs), len(found.problems), len(found.curves),
        ]  # fmt: skip
    assert len(history.sql("FROM imported").fetchall()) == len(found.runs)


@settings(max_examples=100, deadline=None)
@given(body=BYTES, flip=st.integers(0, 10_000))
@pytest.mark.parametrize("whole", ["tensorboard", "wandb"])
def test_flipped_bits_never_end_a_binary_reader(whole: str, body: bytes, flip: int) -> None:
    made = {
        "tensorboard": VERSION + b"".join(tfrecord(event(n, loss=1.0)) for n in range(3)),
        "wandb": wandb_file([wandb_run(), logged(0, loss=1.0), ENDED]),
    }[whole]
    at = flip % len(made)
    damaged = made[:at] + bytes((made[at] ^ (1 << flip % 8),)) + made[at + 1 :] + body
    assert read("source", NOWHERE, damaged, whole).account.whole


@settings(max_examples=100, deadline=None)
@given(body=BYTES)
def test_guessing_a_format_is_a_name_or_a_refusal(body: bytes) -> None:
    likely = max(each.suits("source", body) for each in IMPORTERS.values())
    if likely:
        assert IMPORTERS[guess("source", body)].suits("source", body) == likely
    else:
        with pytest.raises(ImportRefused, match="--format"):
            guess("source", body)


def test_what_is_nested_too_deeply_is_cut_not_followed() -> None:
    deep = "[" * 900 + "]" * 900
    found = reading_of(f'{{"val_loss": 1.0, "tree": {deep}}}\n{{"step": 1.5, "tree": {deep}}}\n', "r.jsonl")
    assert found.runs[0].metric == 1.0
    assert reading_of(f'[1.0, {deep}, {{"val_loss": 2.0, "tree": {deep}}}]', "r.json").account.not_understood == 2


@pytest.mark.parametrize(
    "header",
    [
        "exp_id\tval_loss\tstatus\tdescription",
        "timestamp\tcommit\tbpb\tnotes",
        "# commit\tval_bpb\tmemory_gb\tstatus\tdescription",
    ],
)
def test_headers_of_all_kinds_are_headers(header: str) -> None:
    row = "\t".join(["1.5"] * (header.count("\t") + 1))
    found = reading_of(f"{header}\n{row}\n", "results.tsv", format="autoresearch")
    assert (found.account.header, [run.metric for run in found.runs]) == (1, [1.5])


def test_a_markdown_table_is_read_too() -> None:
    text = "| commit | val_bpb | status | description |\n|---|---|---|---|\n| aaaa111 | 0.9 | keep | base |\n"
    found = reading_of(text, "results.tsv", format="autoresearch")
    assert ([run.metric for run in found.runs], found.account.comments, found.account.not_understood) == ([0.9], 1, 0)
