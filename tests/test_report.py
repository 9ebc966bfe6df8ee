"""Somebody without a terminal reads a campaign in a browser: no network, nothing that runs, every number traceable."""

from __future__ import annotations

import asyncio
import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cockpit.report import svg
from cockpit.report.gather import Answer, Campaign, gather
from cockpit.report.markup import VERDICTS, cell, number, text
from cockpit.report.page import POLICY, page
from engine.history.console import Console, SqlRefused
from engine.history.queries import load_all, parse
from engine.history.store import Store
from engine.rpc import BAD_SQL, RpcError
from tests.history_samples import lab, losses, small_history

QUERIES = load_all([Path(__file__).parents[1] / "queries"])
HOSTILE = "</style></title></svg><script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u202e\x1b]52;c;AAAA\x07&amp;"
FRONTIER = """-- title: Frontier
-- description: What was claimed, and what audits measured
SELECT * FROM (VALUES
    (1, TIMESTAMP '2026-03-01', '0001', 0.1, 0.1, NULL), (2, TIMESTAMP '2026-03-04', '0002', 0.05, 0.15, 0.12)
) t(merge, at_utc, experiment, claimed, claimed_so_far, audited_so_far)
"""
PREDICTED = """-- title: Predicted
-- description: Predicted against measured
SELECT * FROM (VALUES ('0001', 0.02, 0.1), ('0002', 0.05, 0.01), ('0003', 0.01, NULL)) t(experiment, predicted, measured)
"""


class Desk:
    """A history in a real store, asked through the real console, as the engine does it."""

    def __init__(self, directory: Path, rows: list[Any], events: list[Any], points: list[Any]) -> None:
        self.rows = rows
        self.runner = asyncio.Runner()
        self.store = Store.open(directory / "history.duckdb")
        self.store.index(rows, events, len(events))
        self.store.append(points)
        self.console = Console(self.store.path, directory / "copies", self._checkpoint)

    async def _checkpoint(self) -> int:
        return self.store.checkpoint()

    def call(self, method: str, **params: Any) -> Any:
        if method == "curve":
            found = self.store.curve(params["shards"], params["metric"], params["points"])
            return {name: {"steps": steps, "values": values} for name, (steps, values) in found.items()}
        assert method == "sql"
        try:
            return self.runner.run(self.console.run(params["text"], params["params"], params["limit"])).to_json()
        except SqlRefused as error:
            raise RpcError(BAD_SQL, str(error)) from None

    def campaign(self, queries: Any = QUERIES) -> Campaign:
        return gather(self.call, queries, self.rows, head=7, made="2026-03-09T10:00:00+00:00", version="0.1.0", top=3)

    def close(self) -> None:
        self.runner.run(self.console.close())
        self.runner.close()
        self.store.close()


def with_text(hostile: str) -> tuple[list[Any], list[Any]]:
    """The small history with this text in every place that somebody else writes."""
    rows, events = small_history()
    places = ("hypothesis", "why", "detail", "sentence", "mechanism", "rule", "branch", "proposer", "category")
    made: list[Any] = []
    for row in rows:
        changed: dict[str, Any] = {**row, **{name: hostile for name in places if row.get(name)}}
        if changed["kind"] == "shard" and changed["sources"]:
            changed["sources"] = {f"code{hostile}": 1.0, **changed["sources"]}
        if changed["kind"] == "lab":
            changed |= {"name": hostile, "metric": hostile, "unit": hostile}
        made.append(changed)
    return made, events


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    rows, events = small_history()
    points = [
        losses(f"{arm}.screen.s{seed}.a1", [5 - at * 0.02 for at in range(100)])
        for arm in ("trunk-1", "0001")
        for seed in (0, 1)
    ]
    points.append(losses("0001.screen.s2.a1", [5.0, float("nan"), 4.0, 3.5]))
    made = Desk(tmp_path_factory.mktemp("report"), rows, events, points)
    yield made
    made.close()


class Shape(HTMLParser):
    """The tags of a document in order, with the names of their attributes, and what is between them."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.links: list[str] = []
        self.said: list[str] = []
        self.feed(document)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "action", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self.said.append(data)


def svgs(document: str) -> list[ET.Element]:
    found = []
    rest = document
    while '<svg class="chart"' in rest:
        start = rest.index('<svg class="chart"')
        end, depth = start, 0
        while True:
            opened, closed = rest.find("<svg", end), rest.index("</svg>", end)
            depth += 1 if opened != -1 and opened < closed else -1
            end = opened + 4 if opened != -1 and opened < closed else closed + 6
            if depth == 0:
                break
        found.append(ET.fromstring(rest[start:end]))
        rest = rest[end:]
    return found


# --- what it says


def test_a_reader_finds_the_campaign_at_a_glance_and_each_experiment(desk: Desk) -> None:
    document = page(desk.campaign())
    said = " ".join(" ".join(Shape(document).said).split())
    assert "nanolm" in said
    assert "val_bpb in bits per byte, lower is better" in said
    assert "as of event 7" in said
    for verdict in ("solid", "not-solid", "harmful", "broken"):
        assert f"{VERDICTS[verdict]} {verdict}" in said
    assert "+0.1000" in said
    assert "tried in March" in said
    assert "loss is NaN at step 40" in said
    assert "same losses" in said
    forest, *others = svgs(document)
    assert len(forest.findall("g")) == 3, "three experiments have an effect"
    assert len(others) == 3 + 1, "curves of three, sources of the one that has them"


def test_each_number_can_be_asked_for_again(desk: Desk) -> None:
    campaign = desk.campaign()
    document = page(campaign)
    for answer in (campaign.headline, campaign.origin, *campaign.answers.values()):
        assert not answer.problem
        assert text(answer.sql) in document
        again = desk.call("sql", text=answer.sql, params=dict(answer.params), limit=2000)
        assert again["rows"] == list(answer.rows)
    first = campaign.origin.dicts()[0]
    assert (first["experiment"], first["seed"], first["shard"], first["trunk_shard"]) == (
        "0001", 0, "0001.screen.s0.a1", "trunk-1.screen.s0.a1",
    )  # fmt: skip
    assert first["commit"] in document
    assert "0001.screen.s0.a1" in document
    assert "$limit = 200" in " ".join(Shape(document).said)


def test_the_frontier_shows_audited_beside_claimed_and_predictions_meet_measurements(desk: Desk) -> None:
    own = {"frontier": parse(FRONTIER, Path("frontier.sql")), "predicted": parse(PREDICTED, Path("predicted.sql"))}
    document = page(desk.campaign(dict(QUERIES) | own))
    frontier = next(each for each in svgs(document) if each.get("aria-label") == "Frontier")
    labels = [each.text for each in frontier.iter("text")]
    assert "claimed" in labels
    assert "audited" in labels
    paths = {str(each.get("class")): str(each.get("d")) for each in frontier.iter("path")}
    assert "V" in paths["line trunk"], "the claims are steps"
    scatter = next(each for each in svgs(document) if each.get("aria-label") == "Predicted against measured")
    assert len(list(scatter.iter("circle"))) == 2, "what was never measured is no point"


def test_an_empty_history_and_a_broken_question_make_a_page_all_the_same(tmp_path: Path) -> None:
    desk = Desk(tmp_path, [lab()], [], [])
    try:
        wrong = parse(FRONTIER.replace("FROM (VALUES", "FROM nowhere, (VALUES"), Path("frontier.sql"))
        document = page(desk.campaign(dict(QUERIES) | {"frontier": wrong}))
    finally:
        desk.close()
    said = " ".join(Shape(document).said)
    assert "nothing yet" in said
    assert "not answered:" in said
    assert "nowhere" in said


def test_a_number_that_is_not_finite_breaks_the_curve_and_is_no_point(desk: Desk) -> None:
    drawn = svg.lines([svg.Curve("r", "c0", [0, 1, 2, 3], [5.0, None, 4.0, 3.5])], "t", "step", "loss")
    path = next(ET.fromstring(drawn).iter("path"))
    assert str(path.get("d")).count("M") == 2
    assert not svg.lines([svg.Curve("r", "c0", [0], [None])], "t", "step", "loss")
    assert not svg.forest([], "t", "")
    assert not svg.bars([("a", float("nan"))], "t")


# --- what it can do to a reader: nothing


def test_the_page_fetches_nothing_and_runs_nothing(desk: Desk) -> None:
    document = page(desk.campaign())
    shape = Shape(document)
    names = {tag for tag, _ in shape.tags}
    assert not names & {
        "script",
        "iframe",
        "object",
        "embed",
        "link",
        "img",
        "form",
        "base",
        "audio",
        "video",
        "foreignobject",
    }
    assert all(link.startswith("#") for link in shape.links)
    assert not [name for _, attrs in shape.tags for name in attrs if name.startswith("on") or name == "style"]
    assert f'http-equiv="Content-Security-Policy" content="{POLICY}"' in document
    assert "default-src 'none'" in POLICY
    assert "url(" not in document
    assert "@import" not in document
    assert "http://" not in document
    assert "https://" not in document


@pytest.mark.parametrize("hostile", [HOSTILE, "]]>--><!--", "&lt;b&gt;", "${7*7}{{7*7}}", "x" * 2000], ids=repr)
def test_whatever_a_model_or_a_log_wrote_is_text(tmp_path: Path, hostile: str) -> None:
    shapes = []
    for number_, written in enumerate(("plain words", hostile)):
        (folder := tmp_path / str(number_)).mkdir()
        desk = Desk(folder, *with_text(written), [])
        try:
            document = page(desk.campaign())
        finally:
            desk.close()
        shapes.append(Shape(document))
        assert len(svgs(document)) >= 2, "and the pictures are well-formed"
        assert not {"\x1b", "\u202e", "\x07"} & set(document)
    plain, planted = shapes
    spans = ("span", ("class",))  # a long cell says how long it is
    assert [each for each in planted.tags if each != spans] == [each for each in plain.tags if each != spans]
    if len(hostile) < 300:
        assert any(hostile.split("\u202e")[0] in each for each in planted.said), "and it is there to be read"


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_text_is_one_cell(written: str) -> None:
    for made in (
        cell("verdict", written),
        cell("severity", written),
        cell("hypothesis", written),
        cell("x", [written]),
    ):
        shape = Shape(made)
        assert [tag for tag, _ in shape.tags if tag != "span"] == ["td"]
        ET.fromstring(made)


@given(
    st.lists(st.tuples(st.text(max_size=20), st.floats(), st.floats() | st.none(), st.floats() | st.none()), max_size=8)
)
@settings(max_examples=150, deadline=None)
def test_any_effects_make_a_well_formed_picture_within_its_frame(found: list[tuple[str, float, Any, Any]]) -> None:
    effects = [svg.Effect(label, value, lo, hi, "good") for label, value, lo, hi in found]
    for drawn in (
        svg.forest(effects, "t", "bits"),
        svg.bars([(label, value) for label, value, _, _ in found], "t"),
        svg.scatter([(value, lo if lo is not None else 0.0, label) for label, value, lo, _ in found], "t", "x", "y"),
        svg.lines([svg.Curve("r", "c0", range(len(found)), [each[1] for each in found])], "t", "x", "y"),
    ):
        if not drawn:
            continue
        root = ET.fromstring(drawn)
        for each in root.iter():
            for name in ("x", "x1", "x2", "cx"):
                assert -1 <= float(each.get(name, 0)) <= svg.WIDTH + 1
        assert "nan" not in "".join(str(each.get("d", "")) for each in root.iter())


def test_numbers_keep_what_tells_them_apart() -> None:
    assert number(0.0123456, signed=True) == "+0.0123"
    assert number(-0.00002, signed=True) == "-2.00e-05"
    assert number(1_234_567.0) == "1,234,567"
    assert number(2.0134) == "2.0134"
    assert number(float("inf")) == "inf"
    assert 'title="0.0123456789"' in cell("effect", 0.0123456789)
    assert json.dumps({"a": 1}) in cell("x", {"a": 1}).replace("&quot;", '"')
    assert Answer("n", "t", "d", "s").dicts() == []
