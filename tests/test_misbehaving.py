"""Runs that write their metrics badly: what could be read is there, what could not is said, and nothing else suffers."""

from __future__ import annotations

from collections.abc import Callable

from tests.tinylab import TRAIN, TinyLab, rows, wait_for

Make = Callable[..., TinyLab]

LOOP = """
def main(seed, steps, run_dir, metrics, hold):
    fd = os.open(metrics, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for step in (0, 1, 2, 1):
        write(fd, {"step": step, "loss": 2.0 + step, **({"phase": "warm"} if seed == 1 else {})})
    while os.path.exists(hold):
        time.sleep(0.01)
    if seed == 0:
        os.ftruncate(fd, 0)
    if seed == 2:
        os.write(fd, b'{"step": 3, "loss": 1.0, "loss": 2.0}\\n{"step": 3, "loss": 1' + b"0" * 400 + b"}\\n")
    with open(os.path.join(run_dir, "model.json"), "w") as file:
        json.dump({"bottom": 2.0}, file)
"""


def test_a_file_that_shrank_a_text_and_a_key_given_twice_are_each_said(tiny: Make) -> None:
    before, _, rest = TRAIN.partition("def main(")
    lab = tiny(more={"train.py": before + LOOP.strip() + rest[rest.index("\n\n\nif __name__") :]}, slots=3)
    lab.hold.touch()
    with lab.session() as session:
        wait_for(lambda: len(shards := session.call("live")) == 3 and all(row["step"] == 2 for row in shards.values()))
        lab.hold.unlink()
        wait_for(lambda: rows(session, "experiment")["trunk-1"]["state"] == "judged")
        warnings = session.call("status")["warnings"]
        assert any("trunk-1.screen.s0.a1" in each and "shrank" in each for each in warnings)
        assert any("trunk-1.screen.s1.a1" in each and "left out" in each for each in warnings)
        held = (
            "SELECT shard[16:17], list(step ORDER BY rowid) FROM points WHERE metric = 'loss' GROUP BY shard ORDER BY 1"
        )
        assert session.call("sql", text=held)["rows"] == [
            ["s0", [0, 1, 2, 1]],
            ["s1", [0, 1, 2, 1]],
            ["s2", [0, 1, 2, 1]],
        ]
        counted = "SELECT garbage FROM offsets ORDER BY shard"
        assert session.call("sql", text=counted)["rows"] == [[0], [0], [1]]
        again = session.call("curve", shards=["trunk-1.screen.s1.a1"], metric="loss")["trunk-1.screen.s1.a1"]
        assert again == {"steps": [0, 1, 2], "values": [2.0, 3.0, 4.0]}
