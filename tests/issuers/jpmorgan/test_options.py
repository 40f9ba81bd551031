"""The issuer's own settings: hosts by name, accounts, tokens, and every bad value by its name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha1
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from deposit_token_sdk.errors import ConfigurationError
from deposit_token_sdk.issuers.jpmorgan import words
from deposit_token_sdk.issuers.jpmorgan.options import TABLE, Options
from deposit_token_sdk.issuers.jpmorgan.words import reason_of
from deposit_token_sdk.testing.rehearsal import rehearse
from tests import documents
from tests.issuers.jpmorgan import bank

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("version", "named", "url"),
    [
        (2, "production", "https://api.payments.jpmorgan.com/payment/v2"),
        (2, "sandbox", "https://api-sandbox.payments.jpmorgan.com/payment/v2"),
        (2, "mock", "https://api-mock.payments.jpmorgan.com/payment/v2"),
        (1, "production", "https://apigateway.jpmorgan.com/tsapi/v1"),
        (1, "sandbox", "https://apigatewaycat.jpmorgan.com/tsapi/v1"),
        (1, "mock", "https://api-mock.payments.jpmorgan.com/tsapi/v1"),
        (2, "http://127.0.0.1:8001", "http://127.0.0.1:8001/payment/v2"),
        (1, "https://bank.example/", "https://bank.example/tsapi/v1"),
        (2, "https://bank.example/gateway/payment/v2", "https://bank.example/gateway/payment/v2"),
    ],
)
def test_a_host_is_known_by_name_or_given_as_an_address(version: int, named: str, url: str) -> None:
    assert Options.of(bank.settings(version, URL=named)).url == url


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VERSION", "3"),
        ("ACCOUNT", "0070103277"),
        ("ACCOUNT", f"{'1' * 35}:BDA:CHASDEFX"),
        ("ACCOUNT", "1:IBAN:CHASDEFX"),
        ("ACCOUNT", "1:BDA:CHAS"),
        ("DEBTORS", "8830699900:BDA:CHASDEFX"),
        ("DEBTORS", "a=1:BDA:CHASDEFX a=2:BDA:CHASDEFX"),
        ("TOKENS", "SBEUR"),
        ("TOKENS", "SBEUR=EUR:2 OTHER=EUR:2"),
        ("TOKENS", "SBEUR=EUR:2 SBEUR=USD:2"),
        ("KEY_LIFETIME", "0"),
        ("UNSEEN_FOR", "soon"),
        ("TOKEN_URL", "http://id.bank.example/token"),
    ],
)
def test_a_value_that_cannot_be_right_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Options.of(bank.settings(2, **{f"JPMORGAN_{name}": value}))
    assert refused.value.reason == "setting_invalid"
    assert f"DEPOSIT_TOKEN_JPMORGAN_{name}" in str(refused.value)


@pytest.mark.parametrize("version", [2, 1])
def test_a_payment_is_not_given_up_before_its_sending_must_have_ended(version: int) -> None:
    """Else the buyer would be asked to pay anew while the first payment is on its way: twice, for one order."""
    with pytest.raises(ConfigurationError) as refused:
        bank.issuer(version, DEADLINE="45", JPMORGAN_UNSEEN_FOR="44.9")
    assert refused.value.reason == "setting_invalid"
    for told in ("DEPOSIT_TOKEN_JPMORGAN_UNSEEN_FOR", "44.9", "DEPOSIT_TOKEN_DEADLINE", "45"):
        assert told in str(refused.value)
    with pytest.raises(ConfigurationError):
        bank.issuer(version, DEADLINE="121")
    assert bank.issuer(version, DEADLINE="45", JPMORGAN_UNSEEN_FOR="45").unseen_for == 45
    assert bank.issuer(version, DEADLINE="120").unseen_for == 120


@pytest.mark.parametrize("name", ["ACCOUNT", "DEBTORS", "TOKENS", "TOKEN_URL", "CLIENT_ID"])
def test_a_missing_setting_is_named(name: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Options.of(bank.settings(2, **{f"JPMORGAN_{name}": ""}))
    assert refused.value.reason == "setting_missing"
    assert f"DEPOSIT_TOKEN_JPMORGAN_{name}" in str(refused.value)


def test_a_host_that_is_none_and_a_setting_that_there_is_not_are_refused() -> None:
    for change, reason in (({"URL": "uat"}, "setting_invalid"), ({"JPMORGAN_ACOUNT": "1"}, "setting_unknown")):
        with pytest.raises(ConfigurationError) as refused:
            Options.of(bank.settings(2, **change))
        assert refused.value.reason == reason


def test_version_1_cannot_do_without_the_key_that_signs_its_bodies() -> None:
    with pytest.raises(ConfigurationError) as refused:
        bank.issuer(1, SIGNING_KEY="")
    assert refused.value.reason == "setting_missing"


def test_the_keys_id_is_the_thumbprint_of_the_banks_certificate_unless_it_is_set(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "demo-shop")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    certificate = made.sign(key, SHA256())
    path = tmp_path / "cert.pem"
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    issuer = bank.issuer(SIGNING_KEY_ID="", JPMORGAN_CERTIFICATE=str(path))
    assert (
        issuer._access._kid == sha1(certificate.public_bytes(Encoding.DER), usedforsecurity=False).hexdigest().upper()
    )
    with pytest.raises(ConfigurationError) as refused:
        bank.issuer(SIGNING_KEY_ID="", JPMORGAN_CERTIFICATE=str(tmp_path / "none.pem"))
    assert refused.value.reason == "setting_invalid"


def test_the_tokens_are_those_of_the_setting() -> None:
    tokens, sent = rehearse(bank.issuer().tokens(), [])
    assert sent == ()
    assert [(one.code, one.currency, one.decimals) for one in tokens] == [("SBEUR", "EUR", 2), ("SBUSD", "USD", 2)]


def test_every_setting_is_documented_as_it_is() -> None:
    page = (ROOT / "docs/issuers/jpmorgan.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `DEPOSIT_TOKEN_JPMORGAN_")]
    told = {None: "required", "": ""}
    assert rows == [
        f"| `DEPOSIT_TOKEN_JPMORGAN_{name}` | {told.get(default, f'`{default}`')} | {meaning} |"
        for name, (default, meaning) in TABLE.items()
    ]


def test_every_status_and_sub_status_of_the_documents_has_a_meaning() -> None:
    documents.require(2)
    documents.require(1)
    schemas = {version: documents.document(version)["components"]["schemas"] for version in (2, 1)}
    basic = schemas[2]["PaymentStatusBasic"]["properties"]
    assert set(basic["paymentStatus"]["enum"]) | set(schemas[1]["CoreStatus"]["properties"]["status"]["enum"]) == set(
        words.STAGES
    )
    assert set(basic["paymentSubStatus"]["enum"]) == set(words.SUB_STATUSES)


@pytest.mark.parametrize(
    ("version", "code", "reason"),
    [
        (2, "10001", "field_missing"),
        (2, "10003", "field_length"),
        (2, "10105", "field_value"),
        (2, "10106", "idempotency_key_reused"),
        (2, "11499", "account_refused"),
        (2, "11500", "business_rule"),
        (2, "12995", "bank_offline"),
        (2, "13000", "uncategorised"),
        (2, "14000", "security"),
        (2, "15000", "bank_failed"),
        (2, "99999", "bank_refused"),
        (2, "", "bank_refused"),
        (2, "١٠٠٠١", "bank_refused"),
        (1, "GCA-001", "not_entitled"),
        (1, "10005", "amount_too_large"),
        (1, "GCA-999", "bank_refused"),
    ],
)
def test_each_error_code_has_a_word_of_ours(version: int, code: str, reason: str) -> None:
    assert reason_of(version, code) == reason
