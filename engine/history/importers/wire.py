"""Reads protobuf messages off the wire without their schemas, and the checksum that TensorBoard's records carry.

Only what the importers need: fields by number, bounded by the message; anything malformed is a ValueError.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct, unpack

DOUBLE = Struct("<d")
FLOAT = Struct("<f")
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def varint(data: bytes, at: int) -> tuple[int, int]:
    """(value, where it ends) of a base-128 number. Raises ValueError when it is cut off or too long."""
    value = shift = 0
    try:
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, at
            shift += 7
            if shift > 63:
                raise ValueError("a number of more than 64 bits")
    except IndexError:
        raise ValueError("a number is cut off") from None


def fields(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int, int, int]]:
    """(field number, wire type, start, end) of every field of a message; for a varint, `start` is its value.

    Raises ValueError for what is no message.
    """
    at, end = start, len(data) if end is None else end
    while at < end:
        tag = data[at]
        if tag < 128:
            at += 1
        else:
            tag, at = varint(data, at)
        kind, number = tag & 7, tag >> 3
        if kind == BYTES:
            size, at = (data[at], at + 1) if at < end and data[at] < 128 else varint(data, at)
            stop = at + size
        elif kind == VARINT:
            value, at = varint(data, at)
            if at > end:
                raise ValueError("a field is longer than its message")
            yield number, kind, value, at
            continue
        elif kind == FIXED64:
            stop = at + 8
        elif kind == FIXED32:
            stop = at + 4
        else:
            raise ValueError(f"a field of wire type {kind}")
        if stop > end or number == 0:
            raise ValueError("a field is longer than its message")
        yield number, kind, at, stop
        at = stop


def signed(value: int) -> int:
    """A varint of an int64 field as the number that it means."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >= 1 << 63 else value


def text(data: bytes, start: int, end: int) -> str:
    """A string field."""
    return data[start:end].decode("utf-8", "replace")


_BYTES: list[int] = []
_LOW: list[int] = []
_HIGH: list[int] = []


def _tables() -> None:
    """The checksum of each byte, and of each half of a 32-bit word as its first or its last two bytes."""
    for n in range(256):
        for _ in range(8):
            n = (n >> 1) ^ (0x82F63B78 if n & 1 else 0)
        _BYTES.append(n)
    one = _BYTES
    _HIGH.extend(one[(one[n & 255] ^ (n >> 8)) & 255] ^ (one[n & 255] >> 8) for n in range(65536))
    _LOW.extend(_HIGH[n & 0xFFFF] ^ (n >> 16) for n in _HIGH)


def masked_crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli), masked as TFRecord files have it; four bytes a step, since nothing in the stdlib has it."""
    if not _LOW:
        _tables()
    low, high, crc = _LOW, _HIGH, 0xFFFFFFFF
    even = len(data) & ~3
    for word in _words(data, even):
        word ^= crc
        crc = low[word & 0xFFFF] ^ high[word >> 16]
    for byte in data[even:]:
        crc = _BYTES[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _words(data: bytes, size: int) -> tuple[int, ...]:
    return unpack(f"<{size >> 2}I", memoryview(data)[:size])
