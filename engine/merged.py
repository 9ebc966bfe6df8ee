"""The part of the fold that is about what is in the trunk: merges in their order, and audits of what they claimed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

from engine import events as e
from engine.types import AuditRow, AuditState, Claim, ClaimRow, PairRow

if TYPE_CHECKING:
    from engine.state import State


def add(s: State, experiment: str) -> None:
    """An experiment was merged onto the trunk as it stands; its new arm comes next."""
    s.merged.append((experiment, s.trunk_arm))
    s.simplified = _simplified(s)


def _simplified(s: State) -> int:
    """Simplifications that were merged since the last audit: each has spent of the budget for margins."""
    return sum(s.experiments[name].get("claims") == Claim.SIMPLIFICATION for name, _ in s.merged[s.audited :])


def audit_intended(s: State, n: int, t: float, ev: e.AuditIntended) -> None:
    """The trunk of some merges ago is about to run beside the present one."""
    s.audit_plans[ev.audit] = ev
    s.auditing, s.audit_from = ev.audit, len(s.shards)
    s.audits[ev.audit] = AuditRow(
        kind="audit",
        id=ev.audit,
        seq=n,
        state=AuditState.RUNNING,
        then=ev.then,
        now=ev.now,
        rung=ev.rung,
        claims=cast(list[ClaimRow], ev.claims),
        claimed=sum(each["claimed"] for each in ev.claims),
        within=math.hypot(*(each["within"] for each in ev.claims)),
        audited=None,
        lo=None,
        hi=None,
        pairs=[],
        sentence="",
        began=t,
        ended=None,
    )
    s.put(s.audits[ev.audit], n)


def audit_ended(s: State, n: int, t: float, ev: e.AuditEnded) -> None:
    """What it said. The budget for margins begins anew where it came to something: what had drifted is known now."""
    s.auditing = ""
    changes = {name: getattr(ev, name) for name in ("state", "claimed", "audited", "lo", "hi", "sentence")}
    s.change(s.audits, n, ev.audit, {**changes, "pairs": cast(list[PairRow], ev.pairs), "ended": t})
    if ev.state != AuditState.VOID:
        s.audited = s.audit_plans[ev.audit].upto
        s.simplified = _simplified(s)
