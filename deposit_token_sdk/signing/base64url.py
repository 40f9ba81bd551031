"""Base64 that has one spelling only (RFC 4648).

A lenient decoder lets one signature be written in several ways, so that a replay looks new. Here, what is read
must be exactly what would be written: right alphabet, right padding, no spare bits, no white space.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64

_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_+/=", b"+/!!!")
_PADDING = (b"", b"===", b"==", b"=")


def encode_url(raw: bytes) -> str:
    """Base64url without padding (RFC 4648, section 5; RFC 7515, section 2)."""
    return b2a_base64(raw, newline=False).translate(_TO_URL).rstrip(b"=").decode("ascii")


def decode_url(text: str) -> bytes:
    """The bytes of unpadded, canonical base64url; raises ValueError for any other spelling."""
    written = text.encode("ascii").translate(_FROM_URL) + _PADDING[len(text) % 4]
    raw = a2b_base64(written)
    if b2a_base64(raw, newline=False) != written:
        raise ValueError("This is not canonical base64url.")
    return raw


def encode_standard(raw: bytes) -> str:
    """Base64 with padding (RFC 4648, section 4)."""
    return b2a_base64(raw, newline=False).decode("ascii")


def decode_standard(text: str) -> bytes:
    """The bytes of padded, canonical base64; raises ValueError for any other spelling."""
    written = text.encode("ascii")
    raw = a2b_base64(written)
    if b2a_base64(raw, newline=False) != written:
        raise ValueError("This is not canonical base64.")
    return raw
