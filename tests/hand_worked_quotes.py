"""Thirty quotes worked by hand, in exact fractions: literals only, for the bank's test and for the client's.

rate = mid × (1 + spread), half up to ten decimals, from the bank's table of direct rates (spread 0.25 % between
two currencies, none within one). gross = ceil(price × rate × 10^decimals). fee = half up (share × gross) + fixed:
SBUSD 1 % + 5 units, SBEUR 0.9 % + 5 units, SBCNH 1.25 % + 300000 units. The comments show gross and fee share
before rounding. The small prices bear fees above the ceiling a shop would set: raise it where they are checked.
"""

from __future__ import annotations

from typing import NamedTuple


class Worked(NamedTuple):
    """One quote. `price` and `rate` are plain decimals; fee, gross, due and net are token units."""

    price: str
    currency: str
    token: str
    decimals: int
    rate: str
    fee: int
    bearer: str
    gross: int
    due: int
    net: int


HAND_WORKED: tuple[Worked, ...] = (
    Worked("128.50", "EUR", "SBUSD", 2, "1.08640925", 145, "DEBT", 13961, 14106, 13961),  # 13960.3589  fee 139.610
    Worked("128.50", "EUR", "SBUSD", 2, "1.08640925", 145, "CRED", 13961, 13961, 13816),  # 13960.3589  fee 139.610
    Worked("19.99", "USD", "SBUSD", 2, "1", 25, "DEBT", 1999, 2024, 1999),  # 1999.0000  fee 19.990
    Worked("0.50", "USD", "SBUSD", 2, "1", 6, "CRED", 50, 50, 44),  # 50.0000  fee 0.500
    Worked("74.95", "GBP", "SBUSD", 2, "1.2745785", 101, "DEBT", 9553, 9654, 9553),  # 9552.9659  fee 95.530
    Worked("1", "JPY", "SBUSD", 2, "0.0066967", 5, "DEBT", 1, 6, 1),  # 0.6697  fee 0.010
    Worked("1980", "JPY", "SBUSD", 2, "0.0066967", 18, "CRED", 1326, 1326, 1308),  # 1325.9466  fee 13.260
    Worked("149800", "JPY", "SBUSD", 2, "0.0066967", 1008, "DEBT", 100317, 101325, 100317),  # 100316.5660  fee 1003.170
    Worked("0.005", "KWD", "SBUSD", 2, "3.2623355", 5, "DEBT", 2, 7, 2),  # 1.6312  fee 0.020
    Worked("12.345", "KWD", "SBUSD", 2, "3.2623355", 45, "CRED", 4028, 4028, 3983),  # 4027.3532  fee 40.280
    Worked("7.777", "KWD", "SBUSD", 2, "3.2623355", 30, "DEBT", 2538, 2568, 2538),  # 2537.1183  fee 25.380
    Worked("699.00", "CNY", "SBUSD", 2, "0.13824475", 102, "CRED", 9664, 9664, 9562),  # 9663.3080  fee 96.640
    Worked("33.33", "HKD", "SBUSD", 2, "0.1289215", 9, "DEBT", 430, 439, 430),  # 429.6954  fee 4.300
    Worked(
        "1000000.00", "SGD", "SBUSD", 2, "0.74776475", 747770, "CRED", 74776475, 74776475, 74028705
    ),  # 74776475.0000  fee 747764.750
    Worked("45900", "KRW", "SBUSD", 2, "0.0007239053", 38, "DEBT", 3323, 3361, 3323),  # 3322.7253  fee 33.230
    Worked("45.00", "EUR", "SBEUR", 2, "1", 46, "DEBT", 4500, 4546, 4500),  # 4500.0000  fee 40.500
    Worked("0.50", "EUR", "SBEUR", 2, "1", 5, "CRED", 50, 50, 45),  # 50.0000  fee 0.450
    Worked("99.99", "USD", "SBEUR", 2, "0.925107", 88, "DEBT", 9251, 9339, 9251),  # 9250.1449  fee 83.259
    Worked("1234", "JPY", "SBEUR", 2, "0.00617941", 12, "CRED", 763, 763, 751),  # 762.5392  fee 6.867
    Worked("3", "JPY", "SBEUR", 2, "0.00617941", 5, "DEBT", 2, 7, 2),  # 1.8538  fee 0.018
    Worked("0.999", "KWD", "SBEUR", 2, "3.01040725", 8, "CRED", 301, 301, 293),  # 300.7397  fee 2.709
    Worked("250.125", "KWD", "SBEUR", 2, "3.01040725", 683, "DEBT", 75298, 75981, 75298),  # 75297.8113  fee 677.682
    Worked("10.01", "GBP", "SBEUR", 2, "1.176133", 16, "CRED", 1178, 1178, 1162),  # 1177.3091  fee 10.602
    Worked(
        "888.88", "CNH", "SBCNH", 6, "1", 11411000, "DEBT", 888880000, 900291000, 888880000
    ),  # 888880000.0000  fee 11111000.000
    Worked(
        "888.88", "CNY", "SBCNH", 6, "1.002901", 11443233, "CRED", 891458641, 891458641, 880015408
    ),  # 891458640.8800  fee 11143233.012
    Worked("0.01", "USD", "SBCNH", 6, "7.27243575", 300909, "DEBT", 72725, 373634, 72725),  # 72724.3575  fee 909.062
    Worked(
        "128.50", "EUR", "SBCNH", 6, "7.88115375", 12959103, "CRED", 1012728257, 1012728257, 999769154
    ),  # 1012728256.8750  fee 12659103.213
    Worked(
        "777", "JPY", "SBCNH", 6, "0.0485801475", 771835, "DEBT", 37746775, 38518610, 37746775
    ),  # 37746774.6075  fee 471834.688
    Worked("0.001", "KWD", "SBCNH", 6, "23.6660175", 300296, "DEBT", 23667, 323963, 23667),  # 23666.0175  fee 295.837
    Worked(
        "3.141", "KWD", "SBCNH", 6, "23.6660175", 1229187, "CRED", 74334961, 74334961, 73105774
    ),  # 74334960.9675  fee 929187.012
)
