"""Takes out of a text what must not leave the machine: keys and tokens, by their shape, by their name, and by their value.

It errs on the side of redacting what looks like a key; ordinary code (`max_tokens = 4096`, `key = split(key)`) has to pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_SHAPES = (
    ("an Anthropic key", r"sk-ant-[A-Za-z0-9_-]{8,}"),
    ("an API key", r"\bsk-(?:proj-|live-|test-|or-)?[A-Za-z0-9_-]{20,}"),
    ("a GitHub token", r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})"),
    ("a GitLab token", r"\bglpat-[A-Za-z0-9_-]{16,}"),
    ("a Hugging Face token", r"\bhf_[A-Za-z0-9]{20,}"),
    ("an AWS key", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    ("a Google key", r"\bAIza[0-9A-Za-z_-]{30,}"),
    ("a Slack token", r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
    ("a PyPI token", r"\bpypi-[A-Za-z0-9_-]{40,}"),
    ("a web token", r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"),
    ("a private key", r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"),
)
_SHAPE = re.compile("|".join(f"(?P<s{n}>{pattern})" for n, (_, pattern) in enumerate(_SHAPES)))
_NAMED = re.compile(
    r"(?P<name>\b[A-Za-z0-9_.-]*(?:api[_-]?key|secret|passw(?:or)?d|passphrase|credential|access[_-]?key|auth[_-]?token"
    r"|[_-]token|wandb[_-]?key)[A-Za-z0-9_]*[\"']?\s*[:=]\s*)"
    r"(?P<quote>[\"']?)(?P<value>[^\s\"',;#(){}\[\]]{8,})(?P=quote)",
    re.I,
)
_IN_ADDRESS = re.compile(r"(?P<head>\b[a-z][a-z0-9+.-]*://[^\s:/@]+:)[^\s@/]+(?P<tail>@)", re.I)
_HEADER = re.compile(r"(?P<head>\bauthorization[\"']?\s*[:=]\s*[\"']?(?:bearer|basic|token)\s+)[^\s\"']+", re.I)


def redact(text: str, values: Iterable[str] = ()) -> str:
    """`text` with every secret replaced by what it is, in brackets; `values` are secrets known by themselves."""
    for value in sorted(set(values), key=len, reverse=True):
        if len(value) >= 8:
            text = text.replace(value, "[redacted: a secret of this environment]")
    text = _SHAPE.sub(_shape, text)
    text = _HEADER.sub(r"\g<head>[redacted: a credential]", text)
    text = _IN_ADDRESS.sub(r"\g<head>[redacted: a password]\g<tail>", text)
    return _NAMED.sub(_named, text)


def _shape(match: re.Match[str]) -> str:
    return f"[redacted: {_SHAPES[int((match.lastgroup or 's0')[1:])][0]}]"


def _named(match: re.Match[str]) -> str:
    """A value under a telling name counts when it is quoted, or looks drawn at random: letters and digits, many of them."""
    value = match["value"]
    random = len(value) >= 16 and re.search(r"\d", value) and re.search(r"[A-Za-z]", value) and "." not in value
    if value.startswith("[redacted") or not (random or (match["quote"] and re.search(r"[\d\W_]", value))):
        return match[0]
    return f"{match['name']}{match['quote']}[redacted: a secret by its name]{match['quote']}"
