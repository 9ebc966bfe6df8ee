"""A lab keeps questions of its own in `queries/`: they are listed beside the shipped ones, and win where names are the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from engine.rpc import RpcError
from tests.tinylab import TinyLab, better, rows, wait_for

HEAD = "-- title: Ours\n-- description: What we ask\n"


def test_a_labs_own_question_is_asked_in_the_place_of_the_shipped_one(tiny: Callable[..., TinyLab]) -> None:
    lab = tiny(better(1))
    mine = lab.root / "queries"
    mine.mkdir()
    (mine / "noise.sql").write_text(
        HEAD
        + "-- param: least integer = 2 Seeds\nSELECT count(*) >= $least AS enough FROM finals WHERE experiment = 'trunk-1'"
    )
    (mine / "seeds.sql").write_text(HEAD + "SELECT seed FROM shards WHERE NOT smoke ORDER BY seed")
    (mine / "broken.sql").write_text(HEAD + "SELEC 1")
    with lab.session() as session:
        wait_for(lambda: rows(session, "experiment").get("trunk-1", {}).get("state") == "judged")
        listed = {each["name"]: each for each in session.call("queries")["queries"]}
        assert (listed["noise"]["title"], listed["seeds"]["title"]) == ("Ours", "Ours")
        assert listed["leaderboard"]["title"] == "Leaderboard"
        assert "broken.sql:3" in listed["broken"]["problem"]
        assert session.call("sql", query="noise")["rows"] == [[True]]
        assert session.call("sql", query="noise", params={"least": 1000})["rows"] == [[False]]
        seeds = [row["seed"] for row in rows(session, "shard").values() if not row.get("smoke")]
        assert session.call("sql", query="seeds")["rows"] == [[seed] for seed in sorted(seeds)]
        with pytest.raises(RpcError, match=r"broken\.sql:3"):
            session.call("sql", query="broken")
        (mine / "noise.sql").unlink()
        assert session.call("sql", query="noise")["columns"][:3] == ["trunk", "rung", "seeds"], (
            "the shipped one is back at once"
        )
