"""What clients may ask of several experiments together: what a signature on them would cost, and the signature."""

from __future__ import annotations

from typing import Any

from engine.bundles import price_together, sign_together
from engine.core import Core, person
from engine.runs import Runs

BUNDLED = ("bundle", "bundle_price")


class BundleMethods:
    """The methods, bound to one engine."""

    def __init__(self, core: Core, runs: Runs) -> None:
        self.core = core
        self.runs = runs

    async def do_bundle_price(self, experiments: list[str]) -> dict[str, Any]:
        """What signing these together would run, cost and start again; refused where they do not go together."""
        return await price_together(self.core, experiments)

    async def do_bundle(
        self, experiments: list[str], diff_hashes: list[str], request_id: str, why: str = "", full: bool = False
    ) -> dict[str, Any]:
        """Sign several solid experiments together; the bundle is merged by itself when its fresh pairs bear it out."""
        who, setup = person(self.core.identity), self.runs.setup
        return await sign_together(self.core, experiments, diff_hashes, why, who, request_id, setup, full=full)
