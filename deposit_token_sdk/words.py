"""The closed lists of words that shop, client and bank share. What they are said about stands in `models`."""

from __future__ import annotations

from enum import StrEnum


class Mode(StrEnum):
    """Whether money is real: a setting, and a claim in every statement and event."""

    TEST = "test"
    LIVE = "live"


class TokenKind(StrEnum):
    """A claim on a bank deposit, or a stablecoin."""

    DEPOSIT = "deposit"
    STABLECOIN = "stablecoin"


class Bearer(StrEnum):
    """Who pays the bank's fee (ISO 20022 ChargeBearer): DEBT the buyer, CRED the merchant."""

    DEBT = "DEBT"
    CRED = "CRED"


class Capture(StrEnum):
    """Whether an approved payment settles at once, or is held until the merchant's signed word."""

    AUTOMATIC = "automatic"
    MANUAL = "manual"


class Proof(StrEnum):
    """What makes a confirmation believable."""

    JWS = "jws"
    SIGNED_MESSAGE = "signed_message"
    CHANNEL = "channel"
    CHAIN = "chain"


class StatementKind(StrEnum):
    """Which fact a confirmation states."""

    SETTLEMENT = "settlement"
    REFUND = "refund"
    RETURN = "return"
