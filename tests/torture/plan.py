"""What a run is going to do, drawn from its seed: who buys what and how, what is killed when, what goes wrong.

Pure, and the same for the same seed, on either database. What is *not* in here is when things happen between two
processes: that is the machine's business, and the reason to kill at random points at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Final

from attrs import field, frozen

SHOP, WORKER, BANK = "shop", "worker", "bank"
PARTS: Final = (BANK, SHOP, WORKER)

KINDS: Final = {
    "plain": 20,
    "refunded": 16,
    "halves": 10,
    "captured": 10,
    "twice": 7,
    "changed": 7,
    "expired": 7,
    "declined": 6,
    "released": 5,
    "cancelled": 4,
    "over": 4,
    "short": 4,
    "tabs": 4,
    "returned": 2,
}
"""The kinds of purchase and how common each is; `buyers` says what happens in each."""

FAULTS: Final = (
    ("latency", 0.015, 0.3),
    ("latency", 0.004, 2.0),
    ("dripping", 0.008, 0.4),
    ("error_before", 0.012, 0.0),
    ("error_after", 0.012, 0.0),
    ("kept_error", 0.008, 0.0),
    ("kept_error_after", 0.008, 0.0),
    ("dropped", 0.015, 0.0),
    ("rate_limited", 0.006, 1.0),
    ("webhook_lost", 0.05, 0.0),
    ("webhook_repeated", 0.05, 0.0),
    ("webhook_delayed", 0.04, 2.0),
    ("webhook_reordered", 0.04, 2.0),
    ("webhook_corrupted", 0.03, 0.0),
    ("webhook_unanswered", 0.03, 1.0),
    ("payment_held", 0.04, 0.0),
    ("refund_pending", 0.15, 0.0),
)
"""Each fault with the share of what it strikes and its seconds."""

_PRICES: Final = (
    ("EUR", "SBUSD", 2),
    ("USD", "SBUSD", 2),
    ("EUR", "SBEUR", 2),
    ("GBP", "SBEUR", 2),
    ("CNH", "SBCNH", 2),
    ("JPY", "SBUSD", 0),
    ("KWD", "SBCNH", 3),
)


@frozen
class Api:
    """What can be bought by one bank's API: the kinds of purchase that it knows, and prices with the tokens for them.

    `acknowledges` where the bank's id of a webhook is what the shop keeps it by. `moves` where the bank's clock can be
    moved in the middle of a purchase: a price that the shop locks by its own clock has run out by the bank's then.
    `proves` where what the bank says convinces others than the shop, too. `fees`
    where the price names the bank's fee. `told` are settings of the shop's.
    """

    kinds: frozenset[str] = frozenset(KINDS)
    prices: tuple[tuple[str, str, int], ...] = _PRICES
    acknowledges: bool = True
    moves: bool = True
    proves: bool = True
    fees: bool = True
    told: Mapping[str, str] = field(factory=dict)


_PUSHED: Final = Api(
    frozenset({"plain", "refunded", "changed", "tabs", "returned"}),
    (("EUR", "SBEUR", 2), ("USD", "SBUSD", 2)),
    acknowledges=False,
    moves=False,
    proves=False,
    told={"DEPOSIT_TOKEN_JPMORGAN_KEY_LIFETIME": "4", "DEPOSIT_TOKEN_JPMORGAN_UNSEEN_FOR": "8"},
)
"""The shop starts the debit of all that is due, in the price's own currency: nothing short, late or twice, no hold."""

APIS: Final = {
    "reference": Api(),
    "antom": Api(
        frozenset(KINDS) - {"captured", "released", "returned"},
        (("EUR", "SBUSD", 2), ("GBP", "SBEUR", 2), ("JPY", "SBUSD", 0)),
        acknowledges=False,
        fees=False,
    ),
    "jpmorgan": _PUSHED,
    "jpmorgan-v1": _PUSHED,
}
"""By the name of the dialect that the sandbox speaks."""

_KILLS_EVERY = 150
_MOVES_EVERY = 130
_LATE = ("hold", "accept", "refund")


@frozen
class Purchase:
    """One purchase. `late` is what the shop answers should the money come late; `stays`: the buyer waits to see it
    paid; `seed` is for the small choices on the way.
    """

    number: int
    order: str
    kind: str
    amount: str
    currency: str
    token: str
    late: str
    stays: bool
    seed: str

    @property
    def capture(self) -> str:
        """Whether the payment is settled at once or only held."""
        return "manual" if self.kind in ("captured", "released") else "automatic"

    def dice(self) -> Random:
        """Its small choices, the same at each run of this seed."""
        return Random(self.seed)  # noqa: S311 - dice, no secret


@frozen
class Event:
    """What happens when `after` purchases are done, `wait` seconds later: parts are killed, or the clock is moved."""

    after: int
    wait: float
    kills: tuple[str, ...] = ()
    seconds: int = 0


def purchases(seed: int, count: int, api: Api = APIS["reference"]) -> tuple[Purchase, ...]:
    """All purchases. Every kind comes up in each forty or so, however few there are."""
    dice = Random(f"{seed}:purchases")  # noqa: S311 - dice, no secret
    known = {kind: weight for kind, weight in KINDS.items() if kind in api.kinds}
    kinds: list[str] = []
    while len(kinds) < count:
        some = list(known)
        more = dice.choices(some, weights=list(known.values()), k=2 * len(some))
        dice.shuffle(some)
        kinds += some if len(kinds) % 3 == 0 else more
    return tuple(_purchase(dice, seed, number, kind, api) for number, kind in enumerate(kinds[:count], 1))


def _purchase(dice: Random, seed: int, number: int, kind: str, api: Api) -> Purchase:
    currency, token, digits = dice.choice(api.prices)
    major = dice.randint(3_000, 20_000) if currency == "JPY" else dice.randint(20, 180)
    minor = "." + "".join(str(dice.randint(0, 9)) for _ in range(digits)) if digits else ""
    return Purchase(
        number=number,
        order=f"T-{number:04d}",
        kind=kind,
        amount=f"{major}{minor}",
        currency=currency,
        token=token,
        late=dice.choice(_LATE),
        stays=dice.random() < 0.6,
        seed=f"{seed}:purchase:{number}",
    )


def events(seed: int, count: int, api: Api = APIS["reference"]) -> tuple[Event, ...]:
    """Kills of each part, and moves of the clock, in the order in which they fall due. Now and then two die at once."""
    dice = Random(f"{seed}:events")  # noqa: S311 - dice, no secret
    planned: list[Event] = []
    for part in PARTS:
        for _ in range(max(1, count // _KILLS_EVERY)):
            also = tuple(other for other in PARTS if other != part and dice.random() < 0.1)
            planned.append(Event(_moment(dice, count), dice.uniform(0, 0.5), (part, *also)))
    moves = max(1, count // _MOVES_EVERY) if api.moves else 0
    planned += [Event(_moment(dice, count), 0.0, seconds=dice.randint(905, 1200)) for _ in range(moves)]
    return tuple(sorted(planned, key=lambda event: event.after))


def _moment(dice: Random, count: int) -> int:
    return dice.randint(count // 20, count * 19 // 20)


def hook_failures(seed: int, order: str, hook: str) -> int:
    """How often in a row the shop's hook raises for this order, in one process of the shop."""
    dice = Random(f"{seed}:{hook}:{order}")  # noqa: S311 - dice, no secret
    return dice.choice((1, 1, 2)) if dice.random() < 0.04 else 0


def verdict(seed: int, order: str, reason: str, allowed: list[str]) -> str:
    """What the shop's clerk decides about a review; an empty text where it is left alone."""
    dice = Random(f"{seed}:{order}:{reason}")  # noqa: S311 - dice, no secret
    return dice.choice(allowed) if dice.random() < 0.5 else ""
