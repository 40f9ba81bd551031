"""The access token: had with a signed assertion, kept, renewed in time and on 401, and shown nowhere."""

from __future__ import annotations

from base64 import b64decode

import pytest

from deposit_token_sdk.errors import BankRefused, BankUnavailable, ConfigurationError, NotGenuine
from deposit_token_sdk.exchange import Sent
from deposit_token_sdk.signing import rs256, strict_json
from deposit_token_sdk.testing.rehearsal import START, Lost, Reply, rehearse
from tests.issuers.jpmorgan import bank
from tests.issuers.jpmorgan.bank import REFERENCE, TOKEN

SECOND = Reply.json({"access_token": "token-2", "token_type": "bearer", "expires_in": 3600})
UNAUTHORISED = Reply.json({"title": "Unauthorized", "httpStatus": 401}, 401)


def test_the_token_is_asked_for_with_an_assertion_signed_by_the_merchants_key() -> None:
    _, sent = rehearse(bank.issuer().find_invoice(REFERENCE), [TOKEN, bank.missing(2)])
    assert sent[0].url == "https://id.bank.example/token"
    form = bank.form(sent[0])
    assertion = form.pop("client_assertion")
    assert form == {
        "grant_type": "client_credentials",
        "client_id": "client-1",
        "resource": "JPMC:URI:RS-1",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    }
    claims = strict_json.parse(rs256.verify_compact(assertion, bank.rsa_key().verification_key(), kid="4F2A"))
    assert (claims["iss"], claims["sub"], claims["aud"]) == ("client-1", "client-1", "https://id.bank.example/token")
    assert (claims["iat"], claims["exp"]) == (START, START + 300)
    assert claims["jti"]


def test_a_token_is_kept_and_renewed_before_it_ends() -> None:
    issuer = bank.issuer()
    rehearse(issuer.find_invoice(REFERENCE), [TOKEN, bank.missing(2)])
    _, sent = rehearse(issuer.find_invoice(REFERENCE), [bank.missing(2)], start=START + 3200)
    assert sent[0].headers["authorization"] == "Bearer token-1"
    _, sent = rehearse(issuer.find_invoice(REFERENCE), [SECOND, bank.missing(2)], start=START + 3250)
    assert sent[1].headers["authorization"] == "Bearer token-2"


def test_a_token_that_the_bank_takes_no_more_is_replaced_and_the_payment_sent_under_its_key() -> None:
    number, sent = rehearse(bank.issuer().collect(bank.collection()), [TOKEN, UNAUTHORISED, SECOND, bank.accepted(2)])
    assert number == "pay-1"
    payments = [one for one in sent if one.route == "POST /payments"]
    assert [one.headers["authorization"] for one in payments] == ["Bearer token-1", "Bearer token-2"]
    assert len({one.headers["idempotency-key"] for one in payments}) == 1


def test_a_bank_that_takes_no_token_at_all_is_asked_twice_and_no_more() -> None:
    with pytest.raises(BankRefused) as refused:
        rehearse(bank.issuer().find_invoice(REFERENCE), [TOKEN, UNAUTHORISED, SECOND, UNAUTHORISED])
    assert refused.value.reason == "http_401"


@pytest.mark.parametrize("reply", [Reply.json({"error": "invalid_client"}, 400), Reply(200, b"<html>")])
def test_a_refused_token_means_that_no_payment_was_sent(reply: Reply) -> None:
    with pytest.raises(BankUnavailable) as refused:
        rehearse(bank.issuer().collect(bank.collection()), [reply])
    assert refused.value.reason == "token_refused"


def test_a_token_address_that_does_not_answer_is_no_unknown_payment() -> None:
    issuer = bank.issuer(ATTEMPTS="1")
    with pytest.raises(BankUnavailable) as failure:
        rehearse(issuer.collect(bank.collection()), [Lost(Sent.MAYBE_PROCESSED)])
    assert failure.value.reason == "token_unavailable"


def test_the_banks_mock_is_asked_with_a_secret_instead() -> None:
    issuer = bank.issuer(JPMORGAN_CLIENT_SECRET="s3cret", JPMORGAN_SCOPE="jpm:payments:sandbox")
    _, sent = rehearse(issuer.find_invoice(REFERENCE), [TOKEN, bank.missing(2)])
    scheme, _, pair = sent[0].headers["authorization"].partition(" ")
    assert (scheme, b64decode(pair)) == ("Basic", b"client-1:s3cret")
    assert bank.form(sent[0]) == {"grant_type": "client_credentials", "scope": "jpm:payments:sandbox"}


def test_secrets_are_in_no_repr() -> None:
    issuer = bank.issuer(JPMORGAN_CLIENT_SECRET="s3cret")
    rehearse(issuer.find_invoice(REFERENCE), [TOKEN, bank.missing(2)])
    shown = f"{vars(issuer)} {vars(issuer._access)}"
    assert "s3cret" not in shown
    assert "token-1" not in shown


# -- RS256 as the bank prescribes it -----------------------------------------------------------------------------


def test_a_jws_that_brings_more_in_its_header_is_refused() -> None:
    key = bank.rsa_key()
    with pytest.raises(NotGenuine) as refused:
        rs256.verify_compact(rs256.sign_compact(b"{}", key, kid="other"), key.verification_key())
    assert refused.value.reason == "header_not_allowed"


def test_a_jws_that_was_changed_is_refused() -> None:
    header, _, signature = rs256.sign_compact(b'{"a":1}', bank.rsa_key()).split(".")
    with pytest.raises(NotGenuine) as refused:
        rs256.verify_compact(f"{header}.e30.{signature}", bank.rsa_key().verification_key())
    assert refused.value.reason == "signature_mismatch"


@pytest.mark.parametrize("token", ["", "a.b", "a.b.c.d", "e30=.e30.e30", "é.e30.e30"])
def test_what_is_no_jws_is_said_to_be_none(token: str) -> None:
    with pytest.raises(NotGenuine) as refused:
        rs256.verify_compact(token, bank.rsa_key().verification_key())
    assert refused.value.reason == "malformed_jws"


def test_a_certificate_that_is_none_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError) as refused:
        rs256.certificate_thumbprint(b"-----BEGIN NOTHING-----")
    assert refused.value.reason == "bad_certificate"
