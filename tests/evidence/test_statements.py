"""Which statements are believed: each refusal by its own reason, with keys of our own making."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve

from deposit_token_sdk import evidence
from deposit_token_sdk.errors import NotGenuine, NotOurs, Unreadable
from deposit_token_sdk.evidence import Signer
from deposit_token_sdk.models import Confirmation, Proof, StatementKind
from deposit_token_sdk.signing.base64url import decode_url, encode_url
from deposit_token_sdk.signing.keys import Algorithm, KeySet, SigningKey
from tests.evidence.bank import ACCEPTED, BACKING, CLAIMS, NOW, QUOTE, SIGNER, Bank

SETTLEMENT, REFUND, RETURN = StatementKind.SETTLEMENT, StatementKind.REFUND, StatementKind.RETURN
MADE = datetime.fromtimestamp(NOW, UTC)


def believe(
    statement: str, keys: KeySet, kind: StatementKind = SETTLEMENT, signer: Signer = SIGNER, now: float = NOW
) -> Confirmation:
    return evidence.authenticate(statement, keys, signer, now=now, kind=kind)


def not_genuine(statement: str, keys: KeySet, kind: StatementKind = SETTLEMENT, now: float = NOW) -> str:
    with pytest.raises(NotGenuine) as refused:
        believe(statement, keys, kind, now=now)
    return refused.value.reason


def not_ours(statement: str, keys: KeySet) -> str:
    with pytest.raises(NotOurs) as refused:
        believe(statement, keys)
    return refused.value.reason


def unreadable(statement: str, keys: KeySet, kind: StatementKind = SETTLEMENT) -> tuple[str, str | None]:
    with pytest.raises(Unreadable) as refused:
        believe(statement, keys, kind)
    return refused.value.reason, refused.value.field


# -- what is believed ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", [Algorithm.ES256, Algorithm.ED25519])
def test_a_settlement_is_read_into_a_confirmation_with_its_evidence(algorithm: Algorithm) -> None:
    bank = Bank(SigningKey.generate(algorithm, "stmt-2"))
    statement = bank.statement(SETTLEMENT)
    confirmed = believe(statement, bank.keys)
    assert (confirmed.kind, confirmed.proof, confirmed.units) == (SETTLEMENT, Proof.JWS, 14100)
    assert (confirmed.issuer, confirmed.merchant, confirmed.mode) == ("sandbox-bank", "demo-shop", "test")
    assert (confirmed.invoice, confirmed.movement, confirmed.quote_digest) == ("inv-1", "mov-1", "digest-1")
    assert (confirmed.installation, confirmed.reference, confirmed.token) == ("abcd1234", "abcd1234REF", "SBUSD")
    assert (confirmed.accepted_at, confirmed.issued_at) == (ACCEPTED, MADE)
    assert (confirmed.of, confirmed.refund_reference) == (None, None)
    assert (confirmed.evidence.content, confirmed.evidence.at) == (statement, MADE)
    assert [key["kid"] for key in json.loads(confirmed.evidence.keys)["keys"]] == ["stmt-2"]


def test_a_return_names_the_payment_it_takes_back_and_a_refund_the_shops_own_reference(bank: Bank) -> None:
    back = believe(bank.statement(RETURN), bank.keys, RETURN)
    assert (back.movement, back.of, back.quote_digest, back.refund_reference) == ("ret-1", "mov-1", None, None)
    sent = believe(bank.statement(REFUND), bank.keys, REFUND)
    assert (sent.movement, sent.refund_reference, sent.units, sent.of) == ("ref-1", "abcd1234REFUND", 500, None)
    assert sent.accepted_at == sent.issued_at == MADE


def test_a_refunds_time_of_acceptance_is_the_banks_or_where_it_names_none_that_of_the_statement(bank: Bank) -> None:
    plain = believe(bank.statement(REFUND), bank.keys, REFUND)
    assert plain.accepted_at == plain.issued_at
    told = believe(bank.statement(REFUND, accepted_at="2026-11-24T06:00:00Z"), bank.keys, REFUND)
    assert told.accepted_at == datetime(2026, 11, 24, 6, tzinfo=UTC)
    with pytest.raises(Unreadable) as refused:
        believe(bank.statement(REFUND, accepted_at="today"), bank.keys, REFUND)
    assert refused.value.field == "accepted_at"


@pytest.mark.parametrize("kind", list(StatementKind))
def test_of_mixed_statements_the_signed_type_says_what_each_is(bank: Bank, kind: StatementKind) -> None:
    statement = bank.statement(kind)
    assert evidence.kind_of(statement) is kind
    assert believe(statement, bank.keys, kind).kind is kind


def test_neither_a_short_payment_nor_an_unknown_claim_is_a_forgery(bank: Bank) -> None:
    assert believe(bank.statement(SETTLEMENT, units="1", note="hello"), bank.keys).units == 1


def test_a_statement_of_any_age_is_believed(bank: Bank) -> None:
    old = bank.statement(SETTLEMENT, iat=NOW - 10 * 365 * 86_400)
    assert believe(old, bank.keys).issued_at.year == MADE.year - 10


# -- another statement's type ----------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", list(StatementKind))
@pytest.mark.parametrize("typ", [*evidence.TYPS.values(), evidence.QUOTE_TYP, evidence.BACKING_TYP, "JWT", "jose"])
def test_one_kind_of_statement_never_passes_for_another(bank: Bank, wanted: StatementKind, typ: str) -> None:
    if typ == evidence.TYPS[wanted]:
        return
    all_claims = CLAIMS[REFUND] | CLAIMS[RETURN] | CLAIMS[SETTLEMENT]
    assert not_genuine(bank.state(all_claims, typ), bank.keys, wanted) == "wrong_typ"


@pytest.mark.parametrize("typ", [evidence.QUOTE_TYP, evidence.BACKING_TYP, evidence.CAPTURE_TYP, "JWT"])
def test_what_is_about_no_movement_confirms_nothing(bank: Bank, typ: str) -> None:
    statement = bank.state(CLAIMS[SETTLEMENT], typ)
    assert evidence.kind_of(statement) is None
    assert not_genuine(statement, bank.keys, SETTLEMENT) == "wrong_typ"


# -- by whom and for whom --------------------------------------------------------------------------------------


def test_another_banks_statement_is_refused_even_if_signed_with_a_key_we_know(bank: Bank) -> None:
    assert not_ours(bank.statement(SETTLEMENT, iss="other-bank"), bank.keys) == "wrong_issuer"


@pytest.mark.parametrize("audience", ["other-shop", "demo-shop ", "DEMO-SHOP", ""])
def test_another_merchants_statement_is_refused(bank: Bank, audience: str) -> None:
    assert not_ours(bank.statement(SETTLEMENT, aud=audience), bank.keys) == "other_merchant"


def test_an_audience_of_several_is_refused_since_a_statement_is_for_one(bank: Bank) -> None:
    several = bank.statement(SETTLEMENT, aud=["demo-shop", "other-shop"])
    assert unreadable(several, bank.keys) == ("wrong_type", "aud")


# -- keys ------------------------------------------------------------------------------------------------------


def test_a_key_we_do_not_know_is_refused(bank: Bank) -> None:
    stranger = Bank(SigningKey.generate(Algorithm.ES256, "stmt-9"))
    assert not_genuine(stranger.statement(SETTLEMENT), bank.keys) == "key_unknown"


def test_a_strangers_key_under_our_banks_name_is_refused(bank: Bank) -> None:
    stranger = Bank(SigningKey.generate(Algorithm.ES256, bank.key.kid))
    assert not_genuine(stranger.statement(SETTLEMENT), bank.keys) == "signature_mismatch"


def test_the_key_that_signs_answers_signs_no_statement(bank: Bank) -> None:
    for purpose in ("answer", None):
        keys = KeySet((bank.key.verification_key(purpose=purpose),))
        assert not_genuine(bank.statement(SETTLEMENT), keys) == "wrong_key_purpose"


@pytest.mark.parametrize("seconds", [-86_400, -1, 0])
def test_a_key_that_retired_before_the_statement_was_made_is_refused(bank: Bank, seconds: int) -> None:
    later = bank.later(retired_at=MADE + timedelta(seconds=seconds))
    assert not_genuine(bank.statement(SETTLEMENT), later.keys, now=NOW + 999_999) == "key_retired"


@pytest.mark.parametrize("seconds", [1, 86_400])
def test_a_key_that_retired_after_the_statement_was_made_still_verifies_it(bank: Bank, seconds: int) -> None:
    later = bank.later(retired_at=MADE + timedelta(seconds=seconds))
    assert believe(bank.statement(SETTLEMENT), later.keys, now=NOW + 999_999).units == 14100


def test_a_revoked_key_verifies_nothing_not_even_what_was_signed_before(bank: Bank) -> None:
    revoked = bank.later(revoked=True, revoked_at=MADE + timedelta(days=1))
    assert not_genuine(bank.statement(SETTLEMENT), revoked.keys) == "key_revoked"


# -- time ------------------------------------------------------------------------------------------------------


def test_a_statement_may_be_ahead_of_our_clock_by_the_skew_and_no_more(bank: Bank) -> None:
    assert believe(bank.statement(SETTLEMENT, iat=NOW + 300), bank.keys).units == 14100
    statement = bank.statement(SETTLEMENT, iat=NOW + 420)
    with pytest.raises(NotGenuine, match="420 seconds ahead") as refused:
        believe(statement, bank.keys)
    assert refused.value.reason == "in_the_future"
    assert believe(statement, bank.keys, signer=evolve(SIGNER, skew=420)).units == 14100


@pytest.mark.parametrize("iat", [-1, -(10**20), 10**12, 10**400])
def test_a_time_that_cannot_be_is_refused(bank: Bank, iat: int) -> None:
    assert unreadable(bank.statement(SETTLEMENT, iat=iat), bank.keys) == ("bad_value", "iat")


# -- content ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(StatementKind))
def test_every_claim_is_due(bank: Bank, kind: StatementKind) -> None:
    for name in CLAIMS[kind].keys() - {"jti"}:
        claims = {key: value for key, value in CLAIMS[kind].items() if key != name}
        statement = bank.state(claims, evidence.TYPS[kind])
        assert unreadable(statement, bank.keys, kind) == ("missing_field", name)


@pytest.mark.parametrize("kind", list(StatementKind))
def test_a_number_where_a_string_is_due_is_refused(bank: Bank, kind: StatementKind) -> None:
    for name in CLAIMS[kind].keys() - {"jti", "iat"}:
        assert unreadable(bank.statement(kind, **{name: 14100}), bank.keys, kind) == ("wrong_type", name)


@pytest.mark.parametrize("iat", [str(NOW), True, None, [NOW]])
def test_the_time_of_making_is_an_integer(bank: Bank, iat: Any) -> None:
    assert unreadable(bank.statement(SETTLEMENT, iat=iat), bank.keys) == ("wrong_type", "iat")


@pytest.mark.parametrize("units", ["-1", "+1", "1.0", "1e3", "0141", "", " 1", "١", "141,00", "9" * 79])
def test_units_are_digits_and_nothing_else(bank: Bank, units: str) -> None:
    assert unreadable(bank.statement(SETTLEMENT, units=units), bank.keys) == ("bad_value", "units")


@pytest.mark.parametrize("moment", ["2026-11-24T06:00:00", "2026-11-24", "yesterday", "2026-13-24T06:00:00Z"])
def test_a_moment_has_a_date_a_time_and_an_offset(bank: Bank, moment: str) -> None:
    assert unreadable(bank.statement(SETTLEMENT, accepted_at=moment), bank.keys) == ("bad_value", "accepted_at")


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b'{"units":"1","units":"14100"}', "duplicate_key"),
        (b'{"units":NaN}', "not_json"),
        (b'{"units":Infinity}', "not_json"),
        (b'{"units":"1"', "not_json"),
        (b'{"units":"\xff"}', "invalid_utf8"),
        (b'\xef\xbb\xbf{"units":"1"}', "not_json"),
        (b"[]", "not_an_object"),
        (b"", "not_json"),
    ],
)
def test_json_that_two_readers_could_read_in_two_ways_is_refused_though_signed(
    bank: Bank, payload: bytes, reason: str
) -> None:
    assert unreadable(bank.state(payload, evidence.TYPS[SETTLEMENT]), bank.keys)[0] == reason


# -- signature and header --------------------------------------------------------------------------------------


def test_one_bit_changed_anywhere_is_refused(bank: Bank) -> None:
    header, payload, signature = bank.statement(SETTLEMENT).split(".")
    for at in range(0, len(decode_url(payload)), 7):
        changed = bytearray(decode_url(payload))
        changed[at] ^= 1
        assert not_genuine(f"{header}.{encode_url(bytes(changed))}.{signature}", bank.keys) == "signature_mismatch"
    for at in range(64):
        changed = bytearray(decode_url(signature))
        changed[at] ^= 1
        assert not_genuine(f"{header}.{payload}.{encode_url(bytes(changed))}", bank.keys) == "signature_mismatch"


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"alg": "none"}, "algorithm_not_allowed"),
        ({"alg": "HS256"}, "algorithm_not_allowed"),
        ({"alg": "RS256"}, "algorithm_not_allowed"),
        ({"alg": "PS256"}, "algorithm_not_allowed"),
        ({"alg": "ES384"}, "algorithm_not_allowed"),
        ({"alg": "Ed25519"}, "algorithm_mismatch"),
        ({"crit": ["exp"]}, "crit_unknown"),
        ({"jku": "https://evil.example/jwks.json"}, "header_not_allowed"),
        ({"x5u": "https://evil.example/cert.pem"}, "header_not_allowed"),
        ({"jwk": {"kty": "EC"}}, "header_not_allowed"),
        ({"x5c": ["MII"]}, "header_not_allowed"),
        ({"kid": "stmt-9"}, "key_unknown"),
        ({"typ": None}, "wrong_typ"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value,
)
def test_a_header_that_tempts_is_refused_though_the_bank_signed_it(
    bank: Bank, header: dict[str, Any], reason: str
) -> None:
    members = {"alg": "ES256", "kid": "stmt-1", "typ": evidence.TYPS[SETTLEMENT]} | header
    signing_input = f"{encode_url(json.dumps(members).encode())}.{bank.statement(SETTLEMENT).split('.')[1]}"
    statement = f"{signing_input}.{encode_url(bank.key.sign(signing_input.encode()))}"
    assert not_genuine(statement, bank.keys) == reason


@pytest.mark.parametrize("statement", ["", "a.b", "a.b.c.d", "..", "ü.b.c"])
def test_what_is_no_statement_at_all_is_refused(bank: Bank, statement: str) -> None:
    assert not_genuine(statement, bank.keys) == "malformed_jws"


def test_base64_that_is_not_canonical_is_refused(bank: Bank) -> None:
    assert not_genuine(bank.statement(SETTLEMENT) + "=", bank.keys) == "base64_not_canonical"


# -- quotes ----------------------------------------------------------------------------------------------------


def price_lock(bank: Bank, **changes: Any) -> str:
    return bank.state({**QUOTE, **changes}, evidence.QUOTE_TYP)


def test_a_quote_is_read_with_the_digest_that_invoice_and_settlement_name(bank: Bank) -> None:
    statement = price_lock(bank)
    quote = evidence.authenticate_quote(statement, bank.keys, SIGNER, now=NOW)
    assert (str(quote.price), quote.rate, quote.fee) == ("128.50 EUR", Decimal("1.0837"), 174)
    assert (quote.due, quote.net, quote.bearer, quote.decimals) == (14100, 13926, "DEBT", 2)
    assert (quote.id, quote.merchant, quote.mode, quote.statement) == ("quote-1", "demo-shop", "test", statement)
    assert quote.digest == evidence.digest_of(statement)
    assert len(decode_url(quote.digest)) == 32


def test_a_quotes_expiry_is_not_held_against_our_own_clock(bank: Bank) -> None:
    quote = evidence.authenticate_quote(price_lock(bank), bank.keys, SIGNER, now=NOW + 86_400)
    assert quote.expires_at.timestamp() < NOW + 86_400


@pytest.mark.parametrize(
    ("change", "reason", "field"),
    [
        ({"bearer": "SHAR"}, "bad_value", "bearer"),
        ({"mode": "prod"}, "bad_value", "mode"),
        ({"decimals": 37}, "bad_value", "decimals"),
        ({"decimals": -1}, "bad_value", "decimals"),
        ({"decimals": "2"}, "wrong_type", "decimals"),
        ({"rate": 1}, "wrong_type", "rate"),
        ({"rate": "1,08"}, "bad_value", "rate"),
        ({"rate": "1e1"}, "bad_value", "rate"),
        ({"fee": "-1"}, "bad_value", "fee"),
        ({"due": 14100}, "wrong_type", "due"),
        ({"net": "-5"}, "bad_value", "net"),
        ({"price": "128.50 EUR"}, "wrong_type", "price"),
        ({"price": {"currency": "XXX", "amount": "128.50"}}, "bad_value", "price"),
        ({"price": {"currency": "EUR", "amount": "128.505"}}, "bad_value", "price"),
        ({"price": {"currency": "JPY", "amount": "128.50"}}, "bad_value", "price"),
        ({"price": {"currency": "EUR", "amount": 128}}, "wrong_type", "amount"),
        ({"price": {"amount": "128.50"}}, "missing_field", "currency"),
    ],
)
def test_a_quote_that_cannot_be_read_is_the_banks_mistake_and_said_by_field(
    bank: Bank, change: dict[str, Any], reason: str, field: str
) -> None:
    with pytest.raises(Unreadable) as refused:
        evidence.authenticate_quote(price_lock(bank, **change), bank.keys, SIGNER, now=NOW)
    assert (refused.value.reason, refused.value.field) == (reason, field)


def test_a_number_with_a_fraction_in_a_quote_is_refused(bank: Bank) -> None:
    text = json.dumps(QUOTE).replace('"1.0837"', "1.0837").encode()
    with pytest.raises(Unreadable) as refused:
        evidence.authenticate_quote(bank.state(text, evidence.QUOTE_TYP), bank.keys, SIGNER, now=NOW)
    assert (refused.value.reason, refused.value.field) == ("wrong_type", "rate")


def test_a_quote_for_another_merchant_or_by_another_bank_is_not_ours(bank: Bank) -> None:
    for change, reason in (({"aud": "other-shop"}, "other_merchant"), ({"iss": "other-bank"}, "wrong_issuer")):
        with pytest.raises(NotOurs) as refused:
            evidence.authenticate_quote(price_lock(bank, **change), bank.keys, SIGNER, now=NOW)
        assert refused.value.reason == reason


# -- backing ---------------------------------------------------------------------------------------------------


def attested(bank: Bank, **changes: Any) -> str:
    return bank.state({**BACKING, **changes}, evidence.BACKING_TYP)


def test_a_backing_that_balances_is_the_banks_word_that_tokens_equal_deposits(bank: Bank) -> None:
    backing = evidence.authenticate_backing(attested(bank), bank.keys, SIGNER, now=NOW, oldest=86_400)
    assert (backing.token, backing.circulation, backing.deposits) == ("SBUSD", 9_000_000, 9_000_000)
    assert (backing.as_of, backing.issued_at) == (ACCEPTED, MADE)


@pytest.mark.parametrize("deposits", ["8999999", "9000001", "0"])
def test_a_backing_that_does_not_balance_to_the_unit_is_refused(bank: Bank, deposits: str) -> None:
    with pytest.raises(NotGenuine) as refused:
        evidence.authenticate_backing(attested(bank, deposits=deposits), bank.keys, SIGNER, now=NOW, oldest=86_400)
    assert refused.value.reason == "unbalanced"


def test_a_backing_says_how_old_it_is_and_whose_word_and_is_refused_once_it_is_stale(bank: Bank) -> None:
    age = NOW - ACCEPTED.timestamp()
    backing = evidence.authenticate_backing(attested(bank), bank.keys, SIGNER, now=NOW, oldest=age)
    assert backing.age.total_seconds() == age
    assert f"{age:.0f} s before it was read: {SIGNER.issuer}'s own word" in str(backing)
    with pytest.raises(NotGenuine) as refused:
        evidence.authenticate_backing(attested(bank), bank.keys, SIGNER, now=NOW, oldest=age - 1)
    assert refused.value.reason == "stale"
    assert "DEPOSIT_TOKEN_BACKING_AGE" in str(refused.value)


def test_a_backing_dated_ahead_grows_old_from_when_it_was_signed(bank: Bank) -> None:
    ahead = attested(bank, as_of="2027-11-24T06:00:00Z")
    assert evidence.authenticate_backing(ahead, bank.keys, SIGNER, now=NOW, oldest=60).age.total_seconds() == 0
    with pytest.raises(NotGenuine) as refused:
        evidence.authenticate_backing(ahead, bank.keys, SIGNER, now=NOW + 61, oldest=60)
    assert refused.value.reason == "stale"


def test_a_settlement_is_no_backing(bank: Bank) -> None:
    with pytest.raises(NotGenuine) as refused:
        evidence.authenticate_backing(
            bank.state(BACKING, evidence.TYPS[SETTLEMENT]), bank.keys, SIGNER, now=NOW, oldest=86_400
        )
    assert refused.value.reason == "wrong_typ"


def test_the_digest_of_a_statement_is_sha256_in_base64url() -> None:
    assert evidence.digest_of("abc") == "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0"
