"""What the reference API's JSON is read as, where reading it wrongly would hurt somebody."""

from __future__ import annotations

from typing import Any

import pytest

from deposit_token_sdk.errors import Unreadable
from deposit_token_sdk.issuers.reference_json import read_invoice


def an_invoice(**changed: Any) -> dict[str, Any]:
    return {
        "id": "inv_1",
        "reference": "abcdefgh1",
        "merchant": "shop",
        "installation": "abcdefgh",
        "mode": "test",
        "token": "SBUSD",
        "due": "100",
        "quote_digest": "digest",
        "status": "open",
        "version": 1,
        "expires_at": "2026-11-24T00:00:00Z",
        "pay_url": "https://bank.example/pay/1",
        "capture": "automatic",
        "movements": [],
        "refunds": [],
        **changed,
    }


@pytest.mark.parametrize("address", ["https://bank.example/pay/1", "http://127.0.0.1:8001/pay/1", "http://localhost/p"])
def test_a_buyer_may_be_sent_to_https_or_to_loopback(address: str) -> None:
    assert read_invoice(an_invoice(pay_url=address)).pay_url == address


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "http://bank.example/pay",
        "//bank.example",
        "https://a b",
        "",
        "http://127.0.0.1.evil.example/",
    ],
)
def test_a_buyer_is_never_sent_anywhere_else(address: str) -> None:
    with pytest.raises(Unreadable) as refused:
        read_invoice(an_invoice(pay_url=address))
    assert refused.value.field == "pay_url"


def test_an_unknown_status_is_kept_as_the_banks_word() -> None:
    assert read_invoice(an_invoice(status="teleported")).word == "teleported"
