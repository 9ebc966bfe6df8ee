"""Failures planted in the sample lab, trained for real on a tiny budget: each is caught by its own detector."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")

from engine.edits import Refused
from engine.types import Refusal
from engine.watch.detectors.registry import active, asleep, judge
from engine.watch.detectors.signals import Signal
from engine.watch.detectors.sketch import PASSAGE, passages
from tests.planting import CATALOGUE, LAB, PLANTS, Field, Seen, caught, plant_tree, prepare, read_metrics, try_proposal

STEPS = 30
CHOSEN = ("frozen-layer", "uncleared-gradients", "held-rows", "shifted-mask", "seed-ignored")


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Field:
    """Data and the trunk's runs."""
    return prepare(tmp_path_factory.mktemp("field"), STEPS, (0, 1))


@pytest.mark.parametrize("plant", [each for each in CATALOGUE if each.name in CHOSEN], ids=lambda plant: plant.name)
def test_a_planted_failure_is_caught(where, plant):
    found = try_proposal(where, PLANTS / f"{plant.name}.md", plant.seeds)
    assert caught(plant, found), found


def test_an_honest_proposal_is_not_barred(where):
    found = try_proposal(where, LAB / "proposals" / "09-relu-squared.md")
    assert not [each for each in found if each.severity.bars]


def test_an_edit_of_the_evaluation_or_of_the_probes_is_not_even_run(where):
    with pytest.raises(Refused) as refused:
        plant_tree(where, PLANTS / "edited-evaluation.md")
    assert refused.value.reason is Refusal.PROTECTED
    edit = (PLANTS / "edited-evaluation.md").read_text()
    body = edit.replace("data.py", "probes.py")
    (where.folder / "edited-probes.md").write_text(body)
    with pytest.raises(Refused) as refused:
        plant_tree(where, where.folder / "edited-probes.md")
    assert refused.value.reason is Refusal.PROTECTED


def test_every_plant_applies_to_the_lab_as_it_is(tmp_path):
    bare = Field(tmp_path, STEPS)
    for plant in CATALOGUE:
        if plant.caught_by != "refused":
            tree = plant_tree(bare, PLANTS / f"{plant.name}.md")
            compile((tree / "train.py").read_text(), "train.py", "exec")
    assert {path.stem for path in PLANTS.glob("*.md")} == {plant.name for plant in CATALOGUE}


class TestProbes:
    """What the sample lab reports about its own training."""

    def test_the_trunk_reports_every_signal(self, where):
        known = {
            Signal.TRUNK,
            Signal.SIBLINGS,
            Signal.BUDGET,
            Signal.SPREAD,
            Signal.SOURCE_SPREAD,
            Signal.HELD,
            Signal.TREE,
        }
        run = where.trunk[0]
        assert asleep(run.signals | known) == ()
        assert len(active(run.signals)) >= 9

    def test_the_first_step_is_left_alone(self, where):
        points, _ = read_metrics(where.folder / "trunk.s0")
        looked = [point.step for point in points if "update_ratio" in point.values]
        assert looked == [10, 20, 30]

    def test_without_probes_the_losses_are_the_same_to_the_last_bit(self, where):
        found = try_proposal(where, PLANTS / "unwatched.md")
        said = {each.detector: each for each in found}
        assert {"no-op", "silenced"} <= said.keys()
        assert said["no-op"].evidence["equal"] == STEPS
        probed, bare = (
            (where.folder / f"{name}.s0" / "final.safetensors").read_bytes() for name in ("trunk", "unwatched")
        )
        assert probed == bare

    def test_the_passages_of_rows_are_hashed_as_the_engine_hashes_them(self, where):
        text = (where.folder / "open" / "train" / "code.bin").read_bytes()
        everything = passages(text)
        rows = [row for row in where.trunk[0].rows if row.passages & everything]
        assert rows, "of eight windows a look some come from the code"
        best = max(rows, key=lambda row: len(row.passages & everything))
        assert best.passages <= everything
        assert len(best.passages) >= 4
        assert len(text) > 100 * PASSAGE

    def test_a_run_beside_itself_is_a_no_op_and_nothing_else(self, where):
        seen = Seen(where.trunk[0], trunk=where.trunk[0], siblings=(where.trunk[1],), held=where.held, steps=STEPS)
        assert {each.detector for each in judge(seen)} == {"no-op"}
