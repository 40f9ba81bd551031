"""A stored confirmation of any age verifies, and one that was tampered with does not."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve

from deposit_token_sdk import evidence
from deposit_token_sdk.errors import NotGenuine, Unreadable
from deposit_token_sdk.evidence import Signer, authenticate_stored
from deposit_token_sdk.models import Evidence, Proof, StatementKind
from deposit_token_sdk.signing.base64url import decode_url, encode_url
from deposit_token_sdk.signing.keys import Algorithm, KeySet, SigningKey
from tests.evidence.bank import CLAIMS, NOW, SIGNER, Bank

SETTLEMENT = StatementKind.SETTLEMENT


def refused(stored: Evidence) -> str:
    with pytest.raises(NotGenuine) as error:
        authenticate_stored(stored)
    return error.value.reason


@pytest.mark.parametrize("kind", list(StatementKind))
@pytest.mark.parametrize("algorithm", [Algorithm.ES256, Algorithm.ED25519])
def test_what_was_believed_once_verifies_again_from_what_was_stored(kind: StatementKind, algorithm: Algorithm) -> None:
    bank = Bank(SigningKey.generate(algorithm, "stmt-7"))
    confirmed = bank.confirmation(kind)
    assert authenticate_stored(confirmed.evidence) == confirmed


def test_a_confirmation_that_is_ten_years_old_verifies(bank: Bank) -> None:
    ten_years_ago = NOW - 10 * 365 * 86_400
    confirmed = evidence.authenticate(
        bank.statement(SETTLEMENT, iat=ten_years_ago), bank.keys, SIGNER, now=ten_years_ago, kind=SETTLEMENT
    )
    again = authenticate_stored(confirmed.evidence)
    assert again == confirmed
    assert datetime.fromtimestamp(NOW, UTC) - again.issued_at == timedelta(days=3650)


def test_it_verifies_from_plain_text_as_a_database_gives_it_back(bank: Bank) -> None:
    kept = bank.confirmation().evidence
    row = (kept.proof.value, kept.kind.value, kept.content, kept.keys, kept.at.isoformat())
    read = Evidence(Proof(row[0]), StatementKind(row[1]), row[2], row[3], datetime.fromisoformat(row[4]))
    assert authenticate_stored(read).units == 14100


def test_it_verifies_though_the_key_has_been_retired_or_revoked_since(bank: Bank) -> None:
    kept = bank.confirmation().evidence
    revoked = bank.later(revoked=True)
    with pytest.raises(NotGenuine):
        evidence.authenticate(kept.content, revoked.keys, SIGNER, now=NOW, kind=SETTLEMENT)
    assert authenticate_stored(kept).units == 14100


def test_it_verifies_though_the_banks_clock_was_ahead_of_ours_when_it_came(bank: Bank) -> None:
    tolerant = Signer(SIGNER.issuer, SIGNER.merchant, skew=3600)
    confirmed = evidence.authenticate(
        bank.statement(SETTLEMENT, iat=NOW + 3000), bank.keys, tolerant, now=NOW, kind=SETTLEMENT
    )
    assert authenticate_stored(confirmed.evidence) == confirmed


def test_only_the_key_that_signed_is_kept_beside_the_statement_and_only_its_public_half(bank: Bank) -> None:
    other = SigningKey.generate(Algorithm.ED25519, "stmt-8").verification_key(purpose="statement")
    confirmed = evidence.authenticate(
        bank.statement(SETTLEMENT), KeySet((*bank.keys.keys, other)), SIGNER, now=NOW, kind=SETTLEMENT
    )
    (kept,) = json.loads(confirmed.evidence.keys)["keys"]
    assert kept["kid"] == bank.key.kid
    assert "d" not in kept
    assert KeySet.from_jwks(confirmed.evidence.keys.encode()).keys[0].thumbprint() == bank.keys.keys[0].thumbprint()


def test_a_stored_statement_with_other_content_does_not_verify(bank: Bank) -> None:
    kept = bank.confirmation().evidence
    header, payload, signature = kept.content.split(".")
    richer = decode_url(payload).replace(b'"14100"', b'"94100"')
    assert richer != decode_url(payload)
    assert refused(evolve(kept, content=f"{header}.{encode_url(richer)}.{signature}")) == "signature_mismatch"


def test_a_stored_statement_beside_another_key_does_not_verify(bank: Bank) -> None:
    kept = bank.confirmation().evidence
    for kid, reason in ((bank.key.kid, "signature_mismatch"), ("stmt-9", "key_unknown")):
        stranger = Bank(SigningKey.generate(Algorithm.ES256, kid)).confirmation().evidence
        assert refused(evolve(kept, keys=stranger.keys)) == reason


@pytest.mark.parametrize("kind", [StatementKind.REFUND, StatementKind.RETURN])
def test_a_stored_settlement_cannot_be_relabelled(bank: Bank, kind: StatementKind) -> None:
    assert refused(evolve(bank.confirmation().evidence, kind=kind)) == "wrong_typ"


def test_a_key_that_had_retired_before_the_statement_was_made_stays_refused(bank: Bank) -> None:
    kept = bank.confirmation().evidence
    (key,) = json.loads(kept.keys)["keys"]
    assert refused(evolve(kept, keys=json.dumps({"keys": [{**key, "exp": NOW - 1}]}))) == "key_retired"


def test_broken_stored_keys_are_unreadable_and_not_believed(bank: Bank) -> None:
    for keys in ("", "{}", '{"keys":[{}]}', "[]"):
        with pytest.raises((Unreadable, NotGenuine)):
            authenticate_stored(evolve(bank.confirmation().evidence, keys=keys))


@pytest.mark.parametrize("proof", [Proof.SIGNED_MESSAGE, Proof.CHANNEL, Proof.CHAIN])
def test_a_proof_that_cannot_be_verified_here_is_said_to_be_so(bank: Bank, proof: Proof) -> None:
    assert refused(evolve(bank.confirmation().evidence, proof=proof)) == "proof_unknown"


def test_the_bytes_and_keys_do_not_fill_a_log(bank: Bank) -> None:
    shown = repr(bank.confirmation())
    assert bank.statement(SETTLEMENT).split(".")[0] not in shown
    assert str(CLAIMS[SETTLEMENT]["movement"]) in shown
