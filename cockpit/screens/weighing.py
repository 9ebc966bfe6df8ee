"""The evidence on screen 1: behind `enter`, what the verdict on the selected experiment rests on."""

from __future__ import annotations

from engine.types import ExperimentRow

from ..widgets.evidence_pane import EvidencePane
from .finding import FindingScreen


class WeighingScreen(FindingScreen):
    """Adds the page of the evidence. It follows the cursor while it is open, and steps aside for a row without pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.weighing = False  # the reader opened it

    @property
    def evidence_pane(self) -> EvidencePane:
        return self.query_one(EvidencePane)

    @property
    def evidence_shown(self) -> bool:
        return self.has_class("evidence")

    @property
    def page_shown(self) -> bool:
        """Whether a page stands where the overview and the log would be."""
        return super().page_shown or self.evidence_shown

    def selected(self) -> ExperimentRow | None:
        """The experiment under the cursor; None on a shard."""
        raise NotImplementedError

    def has_evidence(self) -> bool:
        """Whether there is a page to open for what is selected."""
        row = self.selected()
        return row is not None and row["role"] == "experiment" and bool(row["pairs"])

    def show_evidence(self, on: bool) -> None:
        """Open or close the page."""
        self.weighing = on
        self.set_class(on and self.has_evidence(), "evidence")
        self.evidence_pane.top = 0
        self.sync_soon()

    def show_findings(self, on: bool) -> None:
        if on:
            self.close_evidence()
        super().show_findings(on)

    def close_evidence(self) -> None:
        """Close the page where another one opens, which paints the screen itself."""
        self.weighing = False
        self.remove_class("evidence")

    def sync_evidence(self, *, focused: bool) -> None:
        """Paint the page, where it is open and there is one."""
        row = self.selected()
        self.set_class(self.weighing and not super().page_shown and self.has_evidence(), "evidence")
        if self.evidence_shown and row is not None:
            self.evidence_pane.redraw(self.model, row, focused=focused)
