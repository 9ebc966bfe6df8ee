"""Makes untrusted text harmless and honest before anybody sees it: logs, diffs, model replies, names of files and branches.

A terminal obeys what it is sent: an escape sequence in a training log can write the clipboard, and a direction mark
in a diff can show code that is not what runs. `clean` replaces every such character with something visible, once,
where a record enters.
"""

from __future__ import annotations

import re
import unicodedata

_FILLERS = "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\u2800"
"""Letters and symbols that draw nothing, though Unicode does not count them as format characters."""

_SUSPECT = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, but not tab and newline
    "\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180b-\u180f"  # soft hyphen, Arabic and Mongolian format characters
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f"  # zero width, line separators, bidi
    "\ud800-\udfff"  # lone surrogates: no encoding has them
    "\ufe00-\ufe0f\ufeff\ufff0-\ufffb\ufffe\uffff"  # variation selectors, byte order mark, specials
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff"  # tags and more variation selectors
    f"{_FILLERS}"
    "]"
)
_RETURN = re.compile("\r+\n")


def _visible(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    if code < 0xA0:
        return f"<{code:02X}>"
    return f"<U+{code:04X}>"


def clean(text: str) -> str:
    """`text` with every control, escape, direction and invisible character made visible; tab and newline stay.

    Windows line ends become newlines; a lone carriage return becomes `␍`. Cleaning twice changes nothing more.
    """
    if _SUSPECT.search(text) is None:
        return text
    return _SUSPECT.sub(_visible, _RETURN.sub("\n", text))


def clean_line(text: str) -> str:
    """`clean`, for one line: a newline becomes `␊` and a tab four spaces."""
    return clean(text).replace("\n", "␊").replace("\t", "    ")


def clean_all(value: object) -> object:
    """A JSON value with every string in it cleaned, keys of objects included; newlines and tabs stay."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list | tuple):
        return [clean_all(each) for each in value]
    if isinstance(value, dict):
        return {clean(str(key)): clean_all(each) for key, each in value.items()}
    return value


def disguised(text: str) -> list[str]:
    """Names of the characters in `text` that hide or reorder what a reader sees, each once, in order of appearance.

    Control characters are not among them: they are visible after cleaning and cannot change what code means unnoticed.
    """
    found: dict[str, None] = {}
    for match in _SUSPECT.finditer(text):
        char = match.group()
        if ord(char) >= 0xA0:
            found.setdefault(f"U+{ord(char):04X} {unicodedata.name(char, 'unnamed').lower()}")
    return list(found)
