from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deposit_token_sdk.signing.base64url import decode_standard, decode_url, encode_standard, encode_url


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_what_is_encoded_is_decoded_and_agrees_with_the_standard_library(raw: bytes) -> None:
    assert encode_url(raw) == base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    assert encode_standard(raw) == base64.b64encode(raw).decode()
    assert decode_url(encode_url(raw)) == raw
    assert decode_standard(encode_standard(raw)) == raw


@settings(deadline=None)
@given(st.text(alphabet="AZaz09-_+/= \n!é", max_size=12))
def test_whatever_decodes_is_the_only_spelling_of_its_bytes(text: str) -> None:
    for decode, encode in ((decode_url, encode_url), (decode_standard, encode_standard)):
        try:
            raw = decode(text)
        except ValueError:
            continue
        assert encode(raw) == text


@pytest.mark.parametrize("text", ["QQ==", "QR", "Q", "QUI+", "QUI/", "Q Q", "QQ\n", "QUI!", "Qé"])
def test_base64url_that_is_not_canonical_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        decode_url(text)


@pytest.mark.parametrize("text", ["QQ", "QQ=", "QR==", "QUI-", "QUI_", " QQ==", "QQ==\n", "QQ==QQ==", "é==="])
def test_base64_that_is_not_canonical_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        decode_standard(text)
