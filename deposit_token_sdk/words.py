"""The closed lists of words that shop, client and bank share. What they are said about stands in `models`."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


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


COUNTRIES: Final = frozenset(
    """
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ
    CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO
    FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE
    JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO
    MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW
    PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM
    TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW
    """.split()
)
"""Countries and territories by their ISO 3166-1 alpha-2 codes, as assigned. Hong Kong and Macao have their own."""
