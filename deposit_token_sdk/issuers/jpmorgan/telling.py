"""What the bank's payments say about one of the merchant's invoices: pure, over values.

A payment counts for us where its creditor is the merchant's own account, and a refund where its debtor is. What it
was for is its remittance line's word; one that has none of ours is shown and confirms nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from attrs import frozen

from deposit_token_sdk.errors import InvalidInput, NotOurs, Unreadable
from deposit_token_sdk.issuers.jpmorgan import record, words
from deposit_token_sdk.issuers.jpmorgan.options import Account, Options
from deposit_token_sdk.issuers.jpmorgan.payment import Payment
from deposit_token_sdk.issuers.jpmorgan.record import Line, Record
from deposit_token_sdk.lifecycle import RefundStage, Stage, Word
from deposit_token_sdk.models import (
    Capture,
    Confirmation,
    Evidence,
    Invoice,
    Mode,
    Movement,
    Proof,
    Refund,
    Report,
    StatementKind,
)
from deposit_token_sdk.money import units_of

OPEN: Final = "not_collected"
ENDED: Final = "not_paid"
PAID: Final = "collected"
EXPIRED: Final = "expired"
_WORDS: Final = {EXPIRED: Word.EXPIRED, ENDED: Word.CANCELLED}
_NO_KEYS: Final = '{"keys":[]}'
_INSTRUCTIONS: Final = (
    "There is nothing to do at the bank. Once you have agreed here, the shop collects this amount from your account, "
    "under the entitlement that you have given it."
)


def other_payment(payment: Payment) -> NotOurs:
    """The refusal of a payment under our reference that is not what we know it for."""
    return NotOurs(
        "other_payment",
        f"The bank knows the payment {payment.id} under {payment.reference}, but between other accounts than ours or "
        f"for something else: compare DEPOSIT_TOKEN_JPMORGAN_ACCOUNT with what the bank shows.",
    )


def words_of(word: str) -> frozenset[Word]:
    """What an invoice's word says about its end."""
    return frozenset({_WORDS[word]}) if word in _WORDS else frozenset()


@frozen
class Teller:
    """Puts payments into words, for one merchant."""

    issuer: str
    merchant: str
    mode: str
    options: Options

    def towards_us(self, payments: Iterable[Payment]) -> tuple[Payment, ...]:
        """Those to the merchant's account that are no refunds; where the bank names no creditor, our line decides."""
        return tuple(
            one
            for one in payments
            if self._is_ours(one.creditor, one) and not ((line := record.read_line(one.line)) and line.refund)
        )

    def all_towards_us(self, payments: tuple[Payment, ...]) -> tuple[Payment, ...]:
        """The same, of payments under one reference of ours. Raises NotOurs (``other_payment``) if none of them is."""
        ours = self.towards_us(payments)
        if payments and not ours:
            raise other_payment(payments[0])
        return ours

    def _is_ours(self, account: Account | None, payment: Payment) -> bool:
        if account is None:
            return record.read_line(payment.line) is not None
        own = self.options.account
        return account.number == own.number and (not account.bic or _whole(account.bic) == _whole(own.bic))

    def invoice(self, known: Record, payments: tuple[Payment, ...] = ()) -> Invoice:
        """The merchant's record, with the payments towards it as movements."""
        movements = tuple(movement for payment in payments for movement in self._movements(payment))
        return Invoice(
            id=known.id,
            reference=known.reference,
            merchant=self.merchant,
            installation=known.installation,
            mode=Mode(self.mode),
            token=known.token,
            due=known.due,
            quote_digest=known.digest,
            word=_word(payments),
            version=len(movements),
            expires_at=known.expires_at,
            pay_url=None,
            instructions=_INSTRUCTIONS,
            capture=Capture.AUTOMATIC,
            movements=movements,
        )

    def refund(self, payment: Payment) -> Refund | None:
        """The refund that a payment is; None if it is none of ours."""
        line = record.read_line(payment.line)
        if line is None or not line.refund or not self._is_ours(payment.debtor, payment):
            return None
        stage = words.REFUND_STAGES.get(payment.stage, RefundStage.UNKNOWN)
        return Refund(payment.id, payment.reference, line.record.id, self._units(payment), stage, _told(payment))

    def report(self, reference: str, payments: tuple[Payment, ...], at: float) -> Report | None:
        """What the payments of one reference say: about an invoice or a refund of one; None if there are none."""
        if not payments:
            return None
        refunds = tuple(one for one in payments if self.refund(one) is not None)
        ours = self.towards_us(payments)
        lines = [line for one in (*ours, *refunds) if (line := record.read_line(one.line)) is not None]
        if ours and not lines:
            return self._report(ours[0].line or reference, reference, ours, (), frozenset(), at)
        if not lines:
            raise other_payment(payments[0])
        return self.of_record(lines[0].record, ours, refunds, at)

    def of_record(
        self,
        known: Record,
        payments: tuple[Payment, ...],
        refunds: tuple[Payment, ...],
        at: float,
        said: frozenset[Word] = frozenset(),
    ) -> Report:
        """What payments and refunds say about one record; `said` is known of its end already."""
        ending = said | (words_of(_word(payments)) if payments else frozenset())
        return self._report(known.id, known.reference, payments, refunds, ending, at)

    def _report(
        self,
        invoice: str,
        reference: str,
        payments: tuple[Payment, ...],
        refunds: tuple[Payment, ...],
        ending: frozenset[Word],
        at: float,
    ) -> Report:
        movements = tuple(movement for payment in payments for movement in self._movements(payment))
        told = tuple(refund for one in refunds if (refund := self.refund(one)) is not None)
        confirmations = [one for payment in payments for one in self._confirmed(payment, invoice, reference, at)]
        confirmations += [
            self._confirmation(StatementKind.REFUND, one, invoice, reference, at, refund_reference=one.reference)
            for one in refunds
            if one.stage is Stage.SETTLED and self.refund(one) is not None
        ]
        digest = hashlib.sha256(repr((invoice, movements, told, sorted(ending))).encode()).hexdigest()
        return Report(
            issuer=self.issuer,
            merchant=self.merchant,
            installation=reference[: record.INSTALLATION],
            mode=self.mode,
            invoice=invoice,
            reference=reference,
            digest=digest,
            movements=movements,
            words=ending,
            refunds=told,
            confirmations=tuple(confirmations),
        )

    def _movements(self, payment: Payment) -> tuple[Movement, ...]:
        """A payment is one movement; one that was returned had come before, and its return is a movement of its own."""
        units, word, at = self._units(payment), _told(payment), _accepted_at(payment)
        if payment.stage is not Stage.RETURNED:
            return (Movement(payment.id, payment.stage, units, at, word),)
        back = Movement(_return_of(payment), Stage.RETURNED, units, payment.at, word)
        return (Movement(payment.id, Stage.SETTLED, units, at, word), back)

    def _confirmed(self, payment: Payment, invoice: str, reference: str, at: float) -> list[Confirmation]:
        kinds = {Stage.SETTLED: [StatementKind.SETTLEMENT]}
        kinds[Stage.RETURNED] = [StatementKind.SETTLEMENT, StatementKind.RETURN]
        return [self._confirmation(kind, payment, invoice, reference, at) for kind in kinds.get(payment.stage, [])]

    def _confirmation(
        self,
        kind: StatementKind,
        payment: Payment,
        invoice: str,
        reference: str,
        at: float,
        refund_reference: str | None = None,
    ) -> Confirmation:
        line = record.read_line(payment.line)
        token = self.options.token_in(payment.currency)
        back = kind is StatementKind.RETURN
        return Confirmation(
            kind=kind,
            issuer=self.issuer,
            merchant=self.merchant,
            installation=reference[: record.INSTALLATION],
            mode=self.mode,
            invoice=invoice if line is None else line.record.id,
            reference=reference,
            token=payment.currency if token is None else token.code,
            quote_digest=_digest(line) if kind is StatementKind.SETTLEMENT else None,
            movement=_return_of(payment) if back else payment.id,
            units=self._units(payment),
            accepted_at=_accepted_at(payment) if kind is StatementKind.SETTLEMENT else payment.at,
            issued_at=payment.at,
            evidence=Evidence(Proof.CHANNEL, kind, payment.raw, _NO_KEYS, datetime.fromtimestamp(at, UTC)),
            of=payment.id if back else None,
            refund_reference=refund_reference,
        )

    def _units(self, payment: Payment) -> int:
        token = self.options.token_in(payment.currency)
        if token is None:
            raise Unreadable(
                "bad_value", f"The payment {payment.id} is in {payment.currency[:10]}: no token of that is taken here."
            )
        try:
            return units_of(payment.amount, token.decimals)
        except InvalidInput as error:
            raise Unreadable("bad_value", f"The payment {payment.id} has an amount that cannot be: {error}") from None


def _word(payments: tuple[Payment, ...]) -> str:
    """Our word for where an invoice stands; payments that all came to nothing end it, for its reference is spent."""
    if not payments:
        return OPEN
    return ENDED if all(one.stage is Stage.RELEASED for one in payments) else PAID


def _told(payment: Payment) -> str:
    return payment.word if payment.sub_word is None else f"{payment.word}/{payment.sub_word}"


def _digest(line: Line | None) -> str:
    return "" if line is None else line.record.digest


def _accepted_at(payment: Payment) -> datetime:
    """When the debit was started, by the merchant, as the payment itself says; else the bank's time on it.

    The bank tells when a status last changed, which for a payment that was looked at for a day is a day too late.
    """
    line = record.read_line(payment.line)
    return payment.at if line is None or line.asked_at is None else line.asked_at


def _whole(bic: str) -> str:
    """A BIC in eleven characters: one of eight is the head office's, whose branch is XXX (ISO 9362)."""
    return bic if len(bic) == 11 else f"{bic}XXX"


def _return_of(payment: Payment) -> str:
    return f"{payment.id}:return"
