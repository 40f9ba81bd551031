"""Callbacks that nobody signed: anybody who reaches the address can write one, and none may fill the shop's tables."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import func, select

from deposit_token_sdk.checkout.sql_tables import events
from deposit_token_sdk.signing import ecdsa_body, strict_json
from deposit_token_sdk.signing.keys import Algorithm, KeySet, SigningKey
from tests.sandbox import jpmorgan

VERSIONS = pytest.mark.parametrize("version", [2, 1])


def kept(shop: jpmorgan.Shop) -> int:
    """How many messages stand in the shop's table."""
    with shop.checkout.store.begin() as tx:
        return int(tx.session.scalar(select(func.count()).select_from(events)))


def hint(reference: str, word: str = "COMPLETED") -> bytes:
    told = {"endToEndId": reference, "firmRootId": uuid4().hex, "paymentStatus": word}
    return strict_json.dumps({"callbacks": [told]})


@VERSIONS
def test_of_unreadable_callbacks_that_anybody_can_have_written_one_a_day_goes_before_a_person(
    tmp_path: Path, version: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever reaches the address would else fill the table, and bury the reviews that somebody must decide."""
    with jpmorgan.shop(tmp_path, version) as shop:
        answers = [shop.checkout.receive({}, b'{"nonsense": %d}' % number) for number in range(20)]
        assert {answer.status for answer in answers} == {200}
        assert (kept(shop), [one.reason for one in shop.checkout.reviews()]) == (1, ["bad_value"])
        assert shop.checkout.receive({}, b"<html>").status == 200
        assert (kept(shop), [one.reason for one in shop.checkout.reviews()]) == (2, ["bad_value", "not_json"])
        assert sum("cannot be read" in record.getMessage() for record in caplog.records) == 21
        shop.ahead = timedelta(days=1)
        assert shop.checkout.receive({}, b'{"nonsense": 0}').status == 200
        assert (kept(shop), len(shop.checkout.reviews())) == (3, 3)
        assert [what for what, _ in shop.told] == ["review"] * 3


@VERSIONS
def test_a_callback_that_nobody_signed_is_kept_only_if_it_is_about_an_attempt_of_ours(
    tmp_path: Path, version: int
) -> None:
    with jpmorgan.shop(tmp_path, version) as shop:
        attempt = shop.start()
        unknown = attempt.reference[:8] + "0009ABCDEFGHijklmn"
        for _ in range(5):
            assert shop.checkout.receive({}, hint("zzzzzzzz0001ABCDEFGHijklmn")).reason == "other_installation"
        assert shop.wire.seen == []
        for _ in range(5):
            assert shop.checkout.receive({}, hint(unknown)).status == 200
        assert kept(shop) == 0
        mine = hint(attempt.reference, "PENDING")
        assert [shop.checkout.receive({}, mine).status for _ in range(2)] == [200, 200]
        assert kept(shop) == 1
        assert shop.checkout.reviews() == ()
        assert shop.checkout.collect("A-1").paid


def test_what_the_bank_has_signed_is_kept_whatever_it_says(tmp_path: Path) -> None:
    key = SigningKey.generate(Algorithm.ES256, "ec-1")
    keys = tmp_path / "keys.json"
    keys.write_bytes(strict_json.dumps(KeySet((key.verification_key(),)).jwks()))
    with jpmorgan.shop(
        tmp_path,
        2,
        JPMORGAN_SIGNATURE_HEADER="X-Sig",
        JPMORGAN_KEY_ID_HEADER="X-Kid",
        JPMORGAN_SIGNATURE_KEYS=str(keys),
    ) as shop:
        for body in (b'{"nonsense": 1}', b'{"nonsense": 2}', hint("zzzzzzzz0001ABCDEFGHijklmn")):
            headers = {"X-Sig": ecdsa_body.sign(body, key), "X-Kid": "ec-1"}
            assert shop.checkout.receive(headers, body).status == 200
        assert (kept(shop), [one.reason for one in shop.checkout.reviews()]) == (3, ["bad_value", "bad_value"])
