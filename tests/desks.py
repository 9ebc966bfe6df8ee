"""A desk for proposers: the files of a lab in a dictionary, checked by the real applier, and a context that is plain to see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from engine.edits import Refused, apply, parse
from engine.proposers.base import Credentials, Proposer, Tried
from engine.proposers.context import Context, Past
from engine.proposers.stream import Afresh, Called, Calling, Failed, Said, Text, Thinking, Written

TRAIN = "RATE = 1.0\nWIDTH = 8\n\n\ndef loss(x):\n    return x * RATE\n"
KEY = "sk-ant-test-0123456789abcdef"
CONTEXT = Context(
    lab="tiny",
    metric="val, in nats; lower is better",
    program="Lower val.",
    files={"train.py": TRAIN},
    protected=("score.py",),
    config='[lab]\nname = "tiny"\n',
    history=(Past("0001 (p0001) optimizer | a rate of 2 | effect +0.06931 [+0.06801, +0.07061] seeds 0 1 2 | solid"),),
    noise=("screen: standard deviation 0.00123 over seeds 0 1 2",),
    trying=("p0002: a rate of 3",),
    waiting=(),
    budget=("no limit is set",),
    without_gain=0,
    wanted=3,
    secrets=(KEY,),
    key=b"a key of the test",
)


class FakeDesk:
    """A desk on `files`; `base_url` is where the Messages API is, and no key is there without one."""

    def __init__(self, base_url: str = "", files: Mapping[str, bytes] | None = None, **changes: Any) -> None:
        self.given = dict(files or {"train.py": TRAIN.encode()})
        self.base_url = base_url
        self.used: frozenset[str] = frozenset()
        self.past: tuple[Tried, ...] = ()
        self.facts = replace(CONTEXT, **changes)
        self.checked: list[str] = []

    @property
    def wanted(self) -> int:
        return self.facts.wanted

    def credentials(self) -> Credentials | None:
        return Credentials(KEY, self.base_url) if self.base_url else None

    async def files(self) -> Mapping[str, bytes]:
        return self.given

    async def tried(self) -> tuple[Tried, ...]:
        return self.past

    async def context(self) -> Context:
        return self.facts

    async def check(self, text: str) -> Refused | None:
        self.checked.append(text)
        try:
            apply(parse(text), self.given.get, self.given.__contains__, {"score.py"}.__contains__)
        except Refused as refused:
            return refused
        return None


class Heard:
    """Everything that a proposer said, sorted."""

    def __init__(self) -> None:
        self.said: list[Said] = []

    def of(self, kind: type) -> list[Any]:
        return [each for each in self.said if isinstance(each, kind)]

    @property
    def replies(self) -> list[str]:
        return [each.reply.text for each in self.of(Written)]

    @property
    def failed(self) -> Failed | None:
        found = self.of(Failed)
        assert len(found) <= 1
        return found[0] if found else None

    @property
    def text(self) -> str:
        return "".join(each.text for each in self.of(Text))

    @property
    def thinking(self) -> str:
        return "".join(each.text for each in self.of(Thinking))

    @property
    def calls(self) -> list[Called]:
        assert len(self.of(Calling)) == len(self.of(Called))
        return self.of(Called)

    @property
    def again(self) -> list[Afresh]:
        return self.of(Afresh)


async def hear(proposer: Proposer, desk: FakeDesk) -> Heard:
    """Let a proposer have its say, to the end."""
    heard = Heard()
    async for said in proposer.propose(desk):
        heard.said.append(said)
    return heard
