"""The bank's keys: each for one purpose, rotated, retired and revoked in the open."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deposit_token_sdk.errors import NotGenuine
from deposit_token_sdk.sandbox import Sandbox, keyring
from deposit_token_sdk.sandbox.problems import Refused
from deposit_token_sdk.sandbox.tables import Database
from deposit_token_sdk.signing import jws
from deposit_token_sdk.signing.keys import Algorithm, SigningKey
from tests.sandbox.shop import Shop


def test_statements_and_answers_are_signed_with_different_keys(bank: Sandbox, shop: Shop) -> None:
    published = {key.kid: key.purpose for key in shop.keys().keys}
    current = bank.control.keys()["current"]
    assert published == {current["statement"]: "statement", current["answer"]: "answer"}
    assert jws.peek_kid(shop.quote().body["statement"]) == current["statement"]


@pytest.mark.parametrize("purpose", ["statement", "answer"])
def test_a_rotated_key_signs_from_now_on_and_the_old_one_stays_good(bank: Sandbox, shop: Shop, purpose: str) -> None:
    before = shop.quote().body["statement"]
    old = bank.control.keys()["current"][purpose]
    new = bank.control.rotate_key(purpose)["kid"]
    assert bank.control.keys()["current"][purpose] == new != old
    after = shop.quote()
    assert after.signed
    for statement in (before, after.body["statement"]):
        jws.verify(statement, shop.keys(), typ="deposit-quote+jws")


def test_a_retired_key_says_since_when_and_is_replaced(bank: Sandbox, shop: Shop) -> None:
    old = bank.control.keys()["current"]["statement"]
    before = shop.quote().body["statement"]
    bank.control.retire_key(old)
    key = shop.keys().find(old)
    assert key is not None
    assert key.retired_at is not None
    assert abs((datetime.now(UTC) - key.retired_at).total_seconds()) < 60
    jws.verify(before, shop.keys(), typ="deposit-quote+jws")
    assert jws.peek_kid(shop.quote().body["statement"]) != old


def test_what_a_revoked_key_signed_is_issued_again_under_the_current_one(bank: Sandbox, shop: Shop) -> None:
    invoice = shop.invoice()
    bank.control.pay(invoice["id"])
    shop.refund(invoice, 5)
    before = shop.statements(invoice)
    bank.control.revoke_key(bank.control.keys()["current"]["statement"])
    with pytest.raises(NotGenuine) as refused:
        jws.verify(before[0], shop.keys(), typ="deposit-settlement+jws")
    assert refused.value.reason == "key_revoked"
    again = shop.statements(invoice)
    settled = shop.claims(again[0], "deposit-settlement+jws", "SettlementClaims")
    shop.claims(again[1], "deposit-refund+jws", "RefundClaims")
    assert settled["units"] == "14106"
    assert shop.statements(invoice) == again


def _signer(shop: Shop, path: str = "/tokens") -> str:
    """The id of the key that an answer is signed with."""
    answer = shop.call("GET", path)
    assert answer.signed
    return str(re.findall(r'keyid="([^"]+)"', answer.headers["signature-input"])[0])


@pytest.mark.parametrize("path", ["/tokens", "/invoices/inv_none"])
def test_the_next_answer_is_signed_with_the_key_that_is_current_by_then(bank: Sandbox, shop: Shop, path: str) -> None:
    signers = [_signer(shop, path)]
    signers.append(bank.control.rotate_key("answer")["kid"])
    assert _signer(shop, path) == signers[1]
    bank.control.retire_key(signers[1])  # the one before is still good, and the newest that is
    assert _signer(shop, path) == signers[0]
    shop.http.post(f"{bank.url}/control/revoke_key", json={"kid": signers[0]})
    assert _signer(shop, path) == bank.control.keys()["current"]["answer"] not in signers


def test_keys_that_another_process_writes_into_the_books_count_from_the_next_request(
    bank: Sandbox, shop: Shop, tmp_path: Path
) -> None:
    assert shop.call("GET", "/tokens").status == 200
    old, new = shop.key, SigningKey.generate(Algorithm.ED25519, shop.key.kid)
    books = Database(f"sqlite:///{tmp_path / 'bank' / 'bank.sqlite3'}")
    with books.transaction() as db:
        keyring.enrol(db, shop.merchant, new.verification_key())
        answering = keyring.rotate(db, keyring.ANSWER).kid
    books.close()
    refused = shop.call("GET", "/tokens")
    assert (refused.status, refused.code) == (401, "signature_invalid")
    shop.key = new
    assert _signer(shop) == answering
    shop.key = old
    assert shop.call("POST", "/quotes", {}).status == 401


def test_a_key_the_bank_does_not_have_cannot_be_ended(bank: Sandbox) -> None:
    for verb in (bank.control.retire_key, bank.control.revoke_key, bank.control.rotate_key):
        with pytest.raises(Refused):
            verb("nope")
