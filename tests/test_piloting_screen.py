"""On screen 1 a researcher sees what a cluster would be asked for, and nothing is asked for before the second stroke."""

from __future__ import annotations

from typing import Any

from tests.fakes import ScriptedEngine
from tests.test_app import sitting
from tests.test_evidence_screen import judged_by_evidence

WORDS = "2 nodes with 4 GPUs each for 4 h on partition gpu, account lab7: 8 shards at once"


def on_a_cluster(asked: bool, sentence: str) -> ScriptedEngine:
    engine = judged_by_evidence()
    engine.answers["pilot"] = {"asked": asked, "words": WORDS, "sentence": sentence}
    return engine


def acts(engine: ScriptedEngine) -> list[dict[str, Any]]:
    return [each for each in engine.asked("pilot") if each.get("action")]


async def test_p_says_what_is_asked_for_and_the_second_stroke_asks() -> None:
    engine = on_a_cluster(False, "`cockpit pilot --confirm` asks Slurm for it")
    async with sitting(engine) as desk:
        await desk.press("p")
        await desk.until(lambda: desk.asking)
        assert WORDS in " ".join(desk.text.split())
        assert acts(engine) == []
        engine.answers["pilot"] = {"asked": True, "words": WORDS, "sentence": "the pilot is being asked for"}
        await desk.press("enter")
        await desk.until(lambda: acts(engine))
        assert acts(engine)[0]["action"] == "confirm"
        await desk.until(lambda: "the pilot is being asked for" in desk.text)


async def test_p_gives_back_what_there_is() -> None:
    engine = on_a_cluster(True, "pilot 7 on n[1-2], 3 h 12 m left")
    async with sitting(engine) as desk:
        await desk.press("p")
        await desk.until(lambda: desk.asking)
        assert "pilot 7 on n[1-2], 3 h 12 m left" in desk.text
        await desk.press("enter")
        await desk.until(lambda: acts(engine))
        assert acts(engine)[0]["action"] == "release"


async def test_on_one_machine_there_is_none() -> None:
    engine = judged_by_evidence()
    engine.answers["pilot"] = {"asked": False, "words": "", "sentence": "shards run on this machine"}
    async with sitting(engine) as desk:
        await desk.press("p")
        await desk.until(lambda: "shards run on this machine" in desk.status)
        assert not desk.asking
