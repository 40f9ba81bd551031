"""The report of one day: the shop's orders, invoices, payments and refunds beside the bank's ledger of that day.

`books` compares; here both sides are read, in pieces, and the bank is read first, so that what the shop lacks is
asked for through the one door before it is called a difference. A day is one of the bank's business days, in UTC.
Nothing is written here but what asking the bank makes known.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Final, TypeAlias

from attrs import frozen

from deposit_token_sdk.checkout import books
from deposit_token_sdk.checkout.books import Booked, Difference, Key, Made, Row, Sought, Span
from deposit_token_sdk.checkout.store import Store
from deposit_token_sdk.client import Client
from deposit_token_sdk.issuers.protocol import Capability, require
from deposit_token_sdk.models import LedgerEntry

PAGE: Final = 1000
"""Lines of the ledger read in one answer."""

PIECE: Final = 500
"""Attempts compared at a time."""

MOST_ASKED: Final = 500
"""Invoices that differ and are asked about again, at most; beyond it something is wrong that asking does not mend."""

AROUND: Final = (0, -1, 1, 2, 3, 4, 5, 6, 7)
"""The days, from that of acceptance, in whose ledgers a movement is looked for: a held payment may settle later."""

Progress: TypeAlias = Callable[[str, int, int | None], object]
"""Told what is being read (``ledger``, ``invoices``, ``orders``, ``asking``), how many are done, and of how many."""

Asked: TypeAlias = Callable[[str], str]
"""Asks the bank about one reference and applies its answer; the reason where that failed, else an empty text."""


@frozen
class Total:
    """One token's sums for one kind of line, in token units, on both sides."""

    token: str
    kind: str
    ours: int
    banks: int


@frozen
class DayReport:
    """One bank's day: a row for each invoice of which something moved or differs.

    `invoices` is how many of this shop's the bank made on the day, `others` how many lines are about the merchant's
    other installations. `decimals` are those of each token, for writing amounts out. `failed` are references that
    could not be asked about again, each with the reason.
    """

    day: date
    issuer: str
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]
    totals: tuple[Total, ...]
    decimals: Mapping[str, int]
    invoices: int
    others: int
    failed: tuple[tuple[str, str], ...]

    @property
    def agrees(self) -> bool:
        """Whether both sides say the same, and everything that was asked was answered."""
        return not self.differences and not self.failed


def report(store: Store, client: Client, ask: Asked, day: date, progress: Progress | None = None) -> DayReport:
    """The report of one bank's day. Raises Unsupported where the bank has no ledger, and what reading it raises.

    Every invoice that differs is asked about, through the one door, and compared again: what is left is no news that
    was still on its way.
    """
    require(client.issuer, Capability.LEDGER)
    return _Reading(store, client, ask, day, progress or _silent).report()


class _Reading:
    """One report in the making."""

    def __init__(self, store: Store, client: Client, ask: Asked, day: date, progress: Progress) -> None:
        self._store = store
        self._client = client
        self._ask = ask
        self._day = day
        self._progress = progress
        self._ledgers: dict[date, dict[Key, LedgerEntry]] = {}
        begin = datetime.combine(day, datetime.min.time(), UTC)
        self._span = Span(begin, begin + timedelta(days=1))

    def report(self) -> DayReport:
        lines: defaultdict[str, list[LedgerEntry]] = defaultdict(list)
        for line in self._ledger(self._day):
            lines[line.reference].append(line)
        made = {invoice.reference: invoice for invoice in self._invoices()}
        invoices = 0
        mine = self._store.installation()
        moved = self._store.moved_within(self._client.issuer.name, self._span.begin, self._span.end)
        named = list(dict.fromkeys([*moved, *lines, *made]))
        rows: dict[str, Row] = {}
        others = 0
        for piece in _pieces(named):
            known = {ours.reference: ours for ours in self._store.booked(piece)}
            for reference in piece:
                if reference in known or reference.startswith(mine):
                    invoices += reference in made
                    ours = known.get(reference, Booked(reference, "", None))
                    rows[reference] = self._row(ours, tuple(lines[reference]), made.get(reference))
                else:
                    others += len(lines[reference])
            self._progress("orders", len(rows), len(named))
        failed = self._asked_again(rows, lines, made)
        return self._summed(tuple(rows.values()), invoices, others, failed)

    def _asked_again(
        self, rows: dict[str, Row], lines: defaultdict[str, list[LedgerEntry]], made: Mapping[str, Made]
    ) -> tuple[tuple[str, str], ...]:
        """Ask about what differs, and compare it anew; the references about which that failed."""
        failed = []
        doubtful = [reference for reference, row in rows.items() if row.differences and row.order_id]
        for number, reference in enumerate(doubtful[:MOST_ASKED], 1):
            reason = self._ask(reference)
            if reason:
                failed.append((reference, reason))
            self._progress("asking", number, len(doubtful))
        known = self._store.booked(doubtful[:MOST_ASKED])
        self._ledgers.clear()  # what has been booked since is in a ledger that is read after the shop's books
        for ours in known:
            rows[ours.reference] = self._row(ours, tuple(lines[ours.reference]), made.get(ours.reference))
        return tuple(failed)

    def _row(self, ours: Booked, lines: tuple[LedgerEntry, ...], made: Made | None) -> Row:
        elsewhere = self._found(books.missing(ours, lines, self._span))
        again = {line.id for line in lines}
        late = tuple(line for line in elsewhere.values() if line.at in self._span and line.id not in again)
        lines += late  # booked since the ledger was read
        differences = books.compare(ours, lines, elsewhere, self._span)
        if made is not None:
            differences += books.compare_invoice(ours, made)
        return books.row(ours, lines, differences, self._span)

    def _found(self, sought: Iterable[Sought]) -> dict[Key, LedgerEntry]:
        """The lines about these, in the ledgers of the days around each; that of the day itself is read anew."""
        found: dict[Key, LedgerEntry] = {}
        for each in sought:
            for days in AROUND:
                line = self._lines_of(each.at.date() + timedelta(days=days)).get(each.key)
                if line is not None:
                    found[each.key] = line
                    break
        return found

    def _lines_of(self, day: date) -> dict[Key, LedgerEntry]:
        if day not in self._ledgers:
            lines: dict[Key, LedgerEntry] = {}
            for line in self._ledger(day):
                lines[line.kind, line.movement] = line
                if line.refund_reference is not None:
                    lines[line.kind, line.refund_reference] = line
            self._ledgers[day] = lines
        return self._ledgers[day]

    def _ledger(self, day: date) -> Iterator[LedgerEntry]:
        """All lines of a day, a page at a time."""
        cursor, read = None, 0
        while True:
            page = self._client.ledger(day, cursor, PAGE)
            yield from page.entries
            read += len(page.entries)
            self._progress("ledger", read, None)
            cursor = page.next
            if cursor is None:
                return

    def _invoices(self) -> Iterator[Made]:
        """All invoices that the bank made on the day, a page at a time."""
        cursor, read = None, 0
        while True:
            page = self._client.invoices(cursor, day=self._day)
            yield from map(Made.of, page.invoices)
            read += len(page.invoices)
            self._progress("invoices", read, None)
            cursor = page.next
            if cursor is None:
                return

    def _summed(
        self, rows: tuple[Row, ...], invoices: int, others: int, failed: tuple[tuple[str, str], ...]
    ) -> DayReport:
        ours: defaultdict[tuple[str, str], int] = defaultdict(int)
        banks: defaultdict[tuple[str, str], int] = defaultdict(int)
        for row in rows:
            for kind, units in row.ours.items():
                ours[row.token, kind] += units
            for kind, units in row.banks.items():
                banks[row.token, kind] += units
        shown = [row for row in rows if row.ours or row.banks or row.differences]
        order = {kind: place for place, kind in enumerate(books.BOOKED)}
        named = sorted(ours.keys() | banks.keys(), key=lambda each: (each[0], order.get(each[1], len(order)), each[1]))
        return DayReport(
            day=self._day,
            issuer=self._client.issuer.name,
            rows=tuple(sorted(shown, key=lambda row: (row.order_id, row.reference))),
            differences=tuple(each for row in rows for each in row.differences),
            totals=tuple(Total(token, kind, ours[token, kind], banks[token, kind]) for token, kind in named),
            decimals={token.code: token.decimals for token in self._client.tokens()},
            invoices=invoices,
            others=others,
            failed=failed,
        )


def _pieces(references: list[str]) -> Iterator[list[str]]:
    for at in range(0, len(references), PIECE):
        yield references[at : at + PIECE]


def _silent(_what: str, _done: int, _of: int | None) -> None:
    """Nobody is told."""
