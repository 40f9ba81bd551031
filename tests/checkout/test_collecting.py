"""When a payment that the shop started may be sent again, and when it is taken never to have arrived."""

from __future__ import annotations

from datetime import timedelta

import pytest

from deposit_token_sdk.checkout import collecting
from deposit_token_sdk.checkout.store import Intent, Verb
from deposit_token_sdk.errors import OutcomeUnknown
from deposit_token_sdk.testing.values import NOON
from tests.issuers.jpmorgan import bank

INTENT = Intent(Verb.COLLECT, "ref", "ref", ("key", ""), NOON)


@pytest.mark.parametrize("version", [2, 1])
def test_what_was_sent_again_has_its_time_to_be_seen_before_it_is_given_up(version: int) -> None:
    """Else the buyer would be asked to pay anew, or money be sent back anew, while the first is on its way."""
    issuer = bank.issuer(version, JPMORGAN_KEY_LIFETIME="300", JPMORGAN_UNSEEN_FOR="120")
    last = timedelta(seconds=299) if version == 2 else timedelta(0)
    assert collecting.may_send_again(issuer, INTENT, NOON + last) is (version == 2)
    assert not collecting.may_send_again(issuer, INTENT, NOON + timedelta(seconds=300))
    with pytest.raises(OutcomeUnknown):
        collecting.require_arrived(issuer, INTENT, NOON + last + timedelta(seconds=119))
    collecting.require_arrived(issuer, INTENT, NOON + last + timedelta(seconds=121))
