"""A shop's evidence for the tests of sealing: rows in all sealed tables, a merchant with a key, a bank of our own that
signs its confirmations; and how an export of it is judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from attrs import define, field, frozen
from sqlalchemy import Engine, insert, text
from sqlalchemy.orm import sessionmaker

from deposit_token_sdk import Checkout, Client, SqlStore
from deposit_token_sdk.checkout import archive, proving
from deposit_token_sdk.checkout import sql_tables as t
from deposit_token_sdk.checkout.proving import Outside, Report
from deposit_token_sdk.checkout.seal import Seal
from deposit_token_sdk.checkout.store import Decision, Inbox, Review, Verdict
from deposit_token_sdk.models import StatementKind
from deposit_token_sdk.signing.keys import Algorithm, SigningKey
from tests.evidence.bank import Bank

AT = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
REFERENCE = "abcd1234REF"


def environment(key: SigningKey | None) -> dict[str, str]:
    """A merchant's settings; nothing here is ever called."""
    settings = {
        "DEPOSIT_TOKEN_BANK": "sandbox-bank",
        "DEPOSIT_TOKEN_URL": "http://127.0.0.1:9",
        "DEPOSIT_TOKEN_MERCHANT": "demo-shop",
        "DEPOSIT_TOKEN_MODE": "test",
    }
    if key is not None:
        settings["DEPOSIT_TOKEN_SIGNING_KEY"] = key.to_pem().decode()
        settings["DEPOSIT_TOKEN_SIGNING_KEY_ID"] = key.kid
    return settings


@define
class Keeper:
    """A checkout over a database, the bank whose word it keeps, and the merchant's key."""

    engine: Engine
    bank: Bank = field(factory=lambda: Bank(SigningKey.generate(Algorithm.ES256, "stmt-1")))
    key: SigningKey | None = field(factory=lambda: SigningKey.generate(Algorithm.ED25519, "merchant-1"))
    store: SqlStore = field(init=False)
    checkout: Checkout = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.store = SqlStore(sessionmaker(self.engine))
        self.checkout = Checkout(Client.from_env(environment(self.key)), self.store, now=lambda: AT)

    @property
    def outside(self) -> Outside:
        """Everything that somebody could know from elsewhere: the keys, and the head as it is now."""
        assert self.key is not None
        thumbprints = (self.bank.keys.keys[0].thumbprint(), self.key.verification_key().thumbprint())
        return Outside(frozenset(thumbprints[:1]), frozenset(thumbprints[1:]), self.store.seals.last())

    def events(self, *numbers: int, at: datetime = AT, body: str = "Ada Lovelace paid") -> None:
        with self.store.begin() as tx:
            for number in numbers:
                tx.claim(Inbox("sandbox-bank", f"msg-{number}", f"digest-{number}", REFERENCE, at, f"{body} {number}"))
                tx.record("sandbox-bank", f"msg-{number}", "applied:applied")

    def many_events(self, count: int) -> None:
        """As `events`, in one statement."""
        message = Inbox("sandbox-bank", "", "digest", REFERENCE, AT, "body")
        rows = [{**t.as_row(t.events, message), "key": f"msg-{number}"} for number in range(count)]
        with self.engine.begin() as connection:
            connection.execute(insert(t.events), rows)

    def pay(self, order_id: str = "A-1", *, reference: str = REFERENCE) -> None:
        """An order's payment and a refund of it, as the door keeps them."""
        with self.store.begin() as tx:
            for kind in (StatementKind.SETTLEMENT, StatementKind.REFUND):
                tx.keep_evidence(reference, self.bank.confirmation(kind, reference=reference, invoice=order_id))
            tx.fulfil(order_id, reference, AT)

    def doubt(self, subject: str = "mov-2") -> None:
        """A review, and what a person decided about it."""
        with self.store.begin() as tx:
            tx.open_review(Review("A-1", REFERENCE, "second_payment", subject, "It was paid twice.", AT))
        number = next(review.number for review in self.store.reviews() if review.subject == subject)
        with self.store.begin() as tx:
            tx.decide(Decision(number, Verdict.ACCEPT, "Grace", "Kept as credit.", AT, "REFUND-1"))

    def everything(self) -> None:
        """Rows in each table, under two seals, the first over three tables and the second over two."""
        self.pay()
        self.doubt()
        self.checkout.seal()
        self.events(1, 2, 3)
        self.pay("A-2", reference="abcd1234TWO")
        self.checkout.seal()

    def execute(self, *statements: str) -> None:
        """What somebody with the database's password does behind everybody's back."""
        with self.engine.begin() as connection:
            for statement in statements:
                assert connection.execute(text(statement)).rowcount != 0, statement

    def export(self, folder: Path) -> Path:
        with self.store.seals.snapshot() as snapshot:
            archive.write(folder, snapshot)
        return folder

    def proven(self, folder: Path, outside: Outside | None = None) -> Report:
        """What an export of the database as it now is proves."""
        return proving.prove(archive.Archive.open(self.export(folder)), outside or Outside())


@frozen
class Named:
    """Findings as tests compare them."""

    report: Report

    @property
    def rows(self) -> set[tuple[str, str, str]]:
        return {(found.what, found.source, found.key) for found in self.report.findings}

    @property
    def words(self) -> set[str]:
        return {found.what for found in self.report.findings}


def seals_of(keeper: Keeper) -> list[Seal]:
    with keeper.store.seals.snapshot() as snapshot:
        return list(snapshot.seals())


def sizes_of(seals: Sequence[Seal]) -> list[int]:
    return [seal.size for seal in seals]


def days(number: int) -> timedelta:
    return timedelta(days=number)
