"""The findings on screen 1: a page beside the table, or in its place where it is narrow, and a person's word on each."""

from __future__ import annotations

from engine.rpc import RpcError
from engine.text import clean
from engine.types import FindingRow

from ..findings import alike, can_acknowledge, in_order
from ..follow import OFFLINE
from ..format import plural
from ..widgets.findings_pane import FindingsPane
from ..widgets.prompt import Question
from .briefing import BriefingScreen

REASONS = (
    "the mechanism explains it",
    "measured again by hand, and it holds",
    "meant: it is part of the idea",
    "the detector is wrong here",
)


class FindingScreen(BriefingScreen):
    """Adds the pane of findings: of the selected experiment or shard, or of the whole lab while the trunk is selected."""

    @property
    def findings_pane(self) -> FindingsPane:
        return self.query_one(FindingsPane)

    @property
    def findings_shown(self) -> bool:
        return self.has_class("findings")

    @property
    def page_shown(self) -> bool:
        """Whether a page, of whatever, stands in the place of curves and log."""
        return self.brief_shown or self.findings_shown

    def found_about(self) -> tuple[str, list[FindingRow]]:
        """What is selected, in words, and the findings about it."""
        raise NotImplementedError

    def show_findings(self, on: bool) -> None:
        """Open or close the page; only one page is open at a time."""
        self.set_class(on, "findings")
        if on:
            self.remove_class("brief")
        self.sync_soon()

    def show_brief(self, on: bool) -> None:
        if on:
            self.remove_class("findings")
        super().show_brief(on)

    def sync_findings(self, *, focused: bool) -> None:
        """Paint the page when it is open."""
        if not self.findings_shown:
            return
        about, rows = self.found_about()
        self.findings_pane.set_rows(in_order(rows))
        lab = self.model.lab
        self.findings_pane.redraw(about, lab.get("detectors") if lab else None, focused=focused)

    def why_not(self, action: str) -> str | None:
        if action == "acknowledge":
            row = self.findings_pane.selected if self.findings_shown else None
            if row is None:
                return "no finding is selected: f shows them" if not self.findings_shown else "nothing was found here"
            if not can_acknowledge(row):
                never = "acknowledged" not in row
                return f"{row['id']} can never be acknowledged" if never else f"{row['id']} is acknowledged already"
        return super().why_not(action)

    def do_acknowledge(self) -> None:
        row = self.findings_pane.selected
        assert row is not None
        of = {name: shard["experiment"] for name, shard in self.model.shards.items()}
        same = alike(row, self.model.findings.values(), of)
        more = f" and {plural(len(same) - 1, 'finding')} like it" if len(same) > 1 else ""
        self.ask(
            Question(
                title=f"Acknowledge {row['id']}{more}?",
                details=(
                    f"{row['rule']}: {row['sentence']}",
                    "It stands in the ledger, with your name, that the experiment may be kept all the same.",
                ),
                go="acknowledge",
                text="",
                stock=REASONS,
                required=True,
                answer=lambda why: self._start(self._acknowledge([each["id"] for each in same], why)),
            )
        )

    async def _acknowledge(self, ids: list[str], why: str) -> None:
        try:
            await self.cockpit.ask_twice("ack", findings=ids, why=why)
        except RpcError as error:
            self.say(clean(error.message), "bad")
        except OFFLINE:
            self.say("the engine could not be reached: nothing was acknowledged", "bad")
        else:
            self.say(f"acknowledged {', '.join(ids)}", "good")
