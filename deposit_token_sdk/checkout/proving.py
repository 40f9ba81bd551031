"""What evidence is worth to somebody who was not there: confirmations, rows and seals judged offline, years later.

Everything comes from files and from what the reader has from elsewhere (thumbprints, a head), nothing from settings, a
database or a clock. A confirmation stands on the bank's signature. A row stands on its leaf, the leaf on the root, the
root on the chain of heads, and the chain on the head that was kept outside; what no outside fact holds up is said to
be consistent in itself only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Final

from attrs import Factory, define, frozen

from deposit_token_sdk import evidence
from deposit_token_sdk.checkout import seal as sealing
from deposit_token_sdk.checkout.archive import Archive
from deposit_token_sdk.checkout.seal import ERASABLE, SOURCES, Head, Leaf, Row, Seal
from deposit_token_sdk.errors import DepositTokenError, NotGenuine, Unreadable
from deposit_token_sdk.models import Confirmation, Evidence, Proof, StatementKind
from deposit_token_sdk.signing import jws, strict_json
from deposit_token_sdk.signing.keys import KeySet

WORTH: Final = {
    Proof.JWS: "a signature of the bank's own over the statement: it proves to anybody who knows the bank's key that "
    "the bank said so, and the bank cannot take it back.",
    Proof.SIGNED_MESSAGE: "a message that the bank signed as a whole: it proves the same, but to those only who know "
    "how that bank signs messages. Which token was paid in is the shop's reading of method and currency.",
    Proof.CHANNEL: "an answer over a connection that proved itself to be the bank's: it convinced the shop, which was "
    "there, and proves nothing to others.",
    Proof.CHAIN: "a transfer on a public ledger: it proves itself to anybody who asks that ledger. It is not verified "
    "here, offline.",
}
"""What each kind of proof proves, and to whom."""

_SAID: Final = (
    "issuer merchant installation mode invoice reference token quote_digest movement units accepted_at issued_at of "
    "refund_reference"
).split()


class Worth(StrEnum):
    """All there is to say about a body of evidence, in one word."""

    PROVEN = "proven"
    CONSISTENT = "consistent in itself only"
    NOT_PROVEN = "not proven"


@frozen
class Finding:
    """Something that does not hold. `what` is a short, stable word; `source` and `key` name the row, where it is one.

    Of a row: removed, altered, leaf_removed, leaf_altered, in_doubt. Of a confirmation: not_genuine, unverifiable (no
    such proof can be verified offline), other_key, contradicted. Of a fulfilment: unpaid. Of a seal: seal_removed,
    seal_altered, chain_broken, root_broken, other_head, other_seal_key.
    """

    what: str
    source: str
    key: str
    seal: int | None
    detail: str


@frozen
class Authenticated:
    """A confirmation whose signature holds, with the RFC 7638 thumbprint of the key that made it."""

    confirmation: Confirmation
    kid: str
    thumbprint: str


@frozen
class Outside:
    """What the reader knows from elsewhere: thumbprints of the bank's keys and of the merchant's, a head kept apart."""

    pins: frozenset[str] = frozenset()
    seal_pins: frozenset[str] = frozenset()
    head: Seal | None = None


@define
class Report:
    """What was looked at and what was found. `keys` counts confirmations, `seal_keys` seals, by key thumbprint."""

    installation: str
    confirmations: int = 0
    keys: dict[str, int] = Factory(dict)
    seals: int = 0
    seal_keys: dict[str, int] = Factory(dict)
    unsigned: int = 0
    last: Head | None = None
    sealed: dict[str, int] = Factory(dict)
    unsealed: dict[str, int] = Factory(dict)
    erased: list[Leaf] = Factory(list)
    findings: list[Finding] = Factory(list)
    open: list[str] = Factory(list)

    @property
    def worth(self) -> Worth:
        """Proven only where nothing was found, and nothing is left that only a fact from outside could show."""
        if self.findings:
            return Worth.NOT_PROVEN
        return Worth.CONSISTENT if self.open else Worth.PROVEN

    def found(self, what: str, source: str, key: str, seal: int | None, detail: str) -> None:
        """Put a finding down."""
        self.findings.append(Finding(what, source, key, seal, detail))


# -- a confirmation ----------------------------------------------------------------------------------------------


def authenticate(kept: Evidence) -> Authenticated:
    """A stored confirmation verified with the keys stored beside it, and by which key it is signed.

    Raises NotGenuine, NotOurs and Unreadable, as `evidence.authenticate_stored` does.
    """
    confirmation = evidence.authenticate_stored(kept)
    kid = jws.peek_kid(kept.content) if kept.proof is Proof.JWS else _only_kid(kept.keys)
    return Authenticated(confirmation, kid, _thumbprint(kept.keys, kid))


def of_statement(statement: str, keys: str) -> Evidence:
    """Evidence made of a statement and a JWK set, as a shop hands them out: what kind it is, the statement says.

    Raises NotGenuine: ``wrong_typ`` where it is no confirmation.
    """
    kind = evidence.kind_of(statement)
    if kind is None:
        raise NotGenuine("wrong_typ", f"This JWS is of type {jws.peek_typ(statement)!r}: no bank's confirmation.")
    return Evidence(Proof.JWS, kind, statement, keys, datetime.fromtimestamp(0, UTC))


def of_columns(columns: Mapping[str, str | None]) -> Evidence:
    """Evidence as an exported row, or a file with `content` and `keys` alone, holds it. Raises Unreadable."""
    content, keys = columns.get("content"), columns.get("keys")
    if content is None or keys is None:
        raise Unreadable("missing_field", "A stored confirmation has `content` and `keys`.", field="content")
    if "kind" not in columns:
        return of_statement(content, keys)
    try:
        proof, kind = Proof(columns.get("proof") or Proof.JWS), StatementKind(columns["kind"] or "")
        at = datetime.fromisoformat(columns.get("at") or "1970-01-01T00:00:00Z")
    except ValueError as error:
        raise Unreadable("bad_value", f"A stored confirmation cannot be read: {error}.") from None
    return Evidence(proof, kind, content, keys, at)


def _only_kid(keys: str) -> str:
    """The one key beside a message that names its key in another way than a JWS; none where there are several."""
    known = KeySet.from_jwks(keys.encode()).keys
    return known[0].kid if len(known) == 1 else ""


def _thumbprint(keys: str, kid: str) -> str:
    key = KeySet.from_jwks(keys.encode()).find(kid)
    return "" if key is None else key.thumbprint()


# -- a whole export ----------------------------------------------------------------------------------------------


def prove(archive: Archive, outside: Outside) -> Report:
    """Judge an export. Raises Unreadable where a file is missing or is not of the format."""
    report = Report(archive.installation)
    heads = _chain(archive.seals(), outside, report)
    leaves = _Leaves.of(archive.leaves(), report)
    paid: set[str | None] = set()
    for source in SOURCES:
        for row, sealed in archive.rows(source):
            _row(row, sealed, leaves, report)
            if source == "evidence":
                _confirmation(row, outside, report)
                paid |= {row.columns.get("reference")} if row.columns.get("kind") == "settlement" else set()
            if source == "fulfilments" and row.columns.get("reference") not in paid:
                detail = f"it names attempt {row.columns.get('reference')}, of which no settlement is here"
                report.found("unpaid", source, row.key, sealed, detail)
    leaves.judge(heads, report)
    _say_what_is_open(outside, report)
    return report


def _confirmation(row: Row, outside: Outside, report: Report) -> None:
    number = row.key
    report.confirmations += 1
    try:
        known = authenticate(of_columns(row.columns))
    except DepositTokenError as error:
        what = "unverifiable" if error.reason == "proof_unknown" else "not_genuine"
        report.found(what, row.source, number, None, f"{error.reason}: {error}")
        return
    report.keys[known.thumbprint] = report.keys.get(known.thumbprint, 0) + 1
    if outside.pins and known.thumbprint not in outside.pins:
        report.found("other_key", row.source, number, None, f"its key {known.thumbprint} is none of those pinned")
    for name, written, said in _contradictions(row.columns, known.confirmation):
        report.found(
            "contradicted", row.source, number, None, f"{name} is {written!r}, but the statement says {said!r}"
        )


def _contradictions(
    columns: Mapping[str, str | None], known: Confirmation
) -> Iterable[tuple[str, str | None, str | None]]:
    """Columns that are not what the signed statement says, or what follows from it."""
    said = {name: _text(getattr(known, name)) for name in _SAID}
    said["digest"] = sha256(known.evidence.content.encode()).hexdigest()
    said["attempt"] = known.reference
    return [(name, columns[name], told) for name, told in said.items() if name in columns and columns[name] != told]


def _text(value: object) -> str | None:
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    return None if value is None else str(value)


# -- the chain ---------------------------------------------------------------------------------------------------


def _chain(seals: Iterable[Seal], outside: Outside, report: Report) -> dict[int, Head]:
    """The heads by number, each judged against the one before, its signature and the head from outside."""
    heads: dict[int, Head] = {}
    digest, expected = None, 1
    for seal in seals:
        report.seals += 1
        if seal.number != expected:
            report.found("seal_removed", "seals", str(expected), expected, f"the next one there is {seal.number}")
        _signature(seal, outside, report)
        if outside.head is not None and outside.head.number == seal.number:
            _against(outside.head, seal, report)
        if head := _head(seal, digest if seal.number == expected else None, report):
            heads[seal.number] = report.last = head
        digest, expected = sealing.head_digest(seal.head), seal.number + 1
    if outside.head is not None:
        for number in range(expected, outside.head.number + 1):
            detail = f"the head given from outside is that of seal {outside.head.number}"
            report.found("seal_removed", "seals", str(number), number, detail)
    return heads


def _head(seal: Seal, previous: str | None, report: Report) -> Head | None:
    """The seal's head, set against the digest of the one before it, where that is the one it must continue."""
    try:
        head = sealing.read_head(seal.head)
    except Unreadable as error:
        report.found("seal_altered", "seals", str(seal.number), seal.number, f"its head cannot be read: {error}")
        return None
    if head.number != seal.number or head.installation != report.installation:
        detail = f"its head is that of seal {head.number} of installation {head.installation}"
        report.found("seal_altered", "seals", str(seal.number), seal.number, detail)
    if head.previous != previous and (previous is not None or seal.number == 1):
        detail = "it does not continue the seal before it: one of the two was replaced"
        report.found("chain_broken", "seals", str(seal.number), seal.number, detail)
    return head


def _against(outside: Seal, seal: Seal, report: Report) -> None:
    if outside.head != seal.head:
        detail = "it is not the one whose head was given from outside: what it is over was rewritten"
        report.found("other_head", "seals", str(seal.number), seal.number, detail)
    elif (outside.statement, outside.keys) != (seal.statement, seal.keys):
        detail = "its signature is not the one of the head that was given from outside"
        report.found("other_seal_key", "seals", str(seal.number), seal.number, detail)


def _signature(seal: Seal, outside: Outside, report: Report) -> None:
    if seal.statement is None or seal.keys is None:
        report.unsigned += 1
        if outside.seal_pins:
            report.found("other_seal_key", "seals", str(seal.number), seal.number, "it is not signed")
        return
    try:
        thumbprint = check_seal(seal)
    except DepositTokenError as error:
        report.found("seal_altered", "seals", str(seal.number), seal.number, f"{error.reason}: {error}")
        return
    report.seal_keys[thumbprint] = report.seal_keys.get(thumbprint, 0) + 1
    if outside.seal_pins and thumbprint not in outside.seal_pins:
        detail = f"its key {thumbprint} is none of those pinned"
        report.found("other_seal_key", "seals", str(seal.number), seal.number, detail)


def check_seal(seal: Seal) -> str:
    """The thumbprint of the key that signed this seal. Raises NotGenuine (``seal_unsigned``, ``other_head``)."""
    if seal.statement is None or seal.keys is None:
        raise NotGenuine("seal_unsigned", f"Seal {seal.number} is not signed.")
    keys = KeySet.from_jwks(seal.keys.encode())
    signed = jws.verify(seal.statement, keys, typ=evidence.SEAL_TYP, purpose=None)
    if signed.payload != seal.head.encode():
        raise NotGenuine("other_head", f"What is signed for seal {seal.number} is another head than the one beside it.")
    return signed.key.thumbprint()


# -- rows and leaves ---------------------------------------------------------------------------------------------


@define
class _Leaves:
    """All leaves, by row; what is left over in the end had its row removed. `told` is the hash a row makes now."""

    by_row: dict[tuple[str, str], Leaf]
    told: dict[tuple[str, str], str] = Factory(dict)
    seen: set[tuple[str, str]] = Factory(set)

    @classmethod
    def of(cls, leaves: Iterable[Leaf], report: Report) -> _Leaves:
        by_row: dict[tuple[str, str], Leaf] = {}
        for leaf in leaves:
            if (leaf.source, leaf.key) in by_row:
                report.found("leaf_altered", leaf.source, leaf.key, leaf.seal, "it has two leaves: one was added")
            by_row.setdefault((leaf.source, leaf.key), leaf)
        return cls(by_row)

    def judge(self, heads: Mapping[int, Head], report: Report) -> None:
        """Set each seal's leaves against its root, and then its rows against its leaves."""
        of_seal: dict[int, list[Leaf]] = {number: [] for number in heads}
        for leaf in self.by_row.values():
            of_seal.setdefault(leaf.seal, []).append(leaf)
        for number, leaves in sorted(of_seal.items()):
            self._judge_seal(number, leaves, heads.get(number), report)

    def _judge_seal(self, number: int, leaves: list[Leaf], head: Head | None, report: Report) -> None:
        kept = {(leaf.source, leaf.key): leaf.hash for leaf in leaves}
        made = {row: self.told.get(row, text) for row, text in kept.items()}
        if head is not None and _is_root(head, kept.values()):
            for leaf in leaves:
                self._judge_row(leaf, report)
        elif head is not None and _is_root(head, made.values()):
            for row in (row for row in kept if kept[row] != made[row]):
                report.found("leaf_altered", *row, number, "its row is as it was sealed, but its leaf was changed")
        else:
            size = "nothing" if head is None else f"{head.size} rows"
            detail = f"it is over {size}, and the {len(leaves)} leaves that are here do not make its root"
            report.found("root_broken", "seals", str(number), number, detail)
            for row in sorted(kept):
                report.found("in_doubt", *row, number, "nothing shows any more whether it is as it was sealed")

    def _judge_row(self, leaf: Leaf, report: Report) -> None:
        row = (leaf.source, leaf.key)
        if row not in self.seen:
            report.found("removed", *row, leaf.seal, "it was sealed and is not there any more")
        elif self.told.get(row) != leaf.hash:
            report.found("altered", *row, leaf.seal, "it is not what was sealed")


def _is_root(head: Head, hashes: Iterable[str]) -> bool:
    listed = list(hashes)
    try:
        return len(listed) == head.size and sealing.root_of(listed) == head.root
    except ValueError:  # one of them is no hash
        return False


def _row(row: Row, sealed: int | None, leaves: _Leaves, report: Report) -> None:
    """Count the row, and work out the hash that it makes with the salt of its leaf."""
    name = (row.source, row.key)
    named = strict_json.dumps([row.columns[column] for column in SOURCES[row.source]]).decode()
    if named != row.key or name in leaves.seen:
        report.found("altered", row.source, row.key, sealed, f"it is filed under that name, but is {named}")
        return
    leaf = leaves.by_row.get(name)
    leaves.seen.add(name)
    if leaf is None:
        if sealed is not None:
            detail = "it says that it is sealed, but has no leaf: it was added, or its leaf was removed"
            report.found("leaf_removed", row.source, row.key, sealed, detail)
        report.unsealed[row.source] = report.unsealed.get(row.source, 0) + 1
        return
    if sealed != leaf.seal:
        report.found("altered", row.source, row.key, leaf.seal, f"it says it is under seal {sealed}")
    report.sealed[row.source] = report.sealed.get(row.source, 0) + 1
    with suppress(ValueError):  # a salt that is none makes no hash, and so not the one that was sealed
        leaves.told[name] = sealing.leaf_hash(row, leaf.salt, _commitment(row, leaf, report))


def _commitment(row: Row, leaf: Leaf, report: Report) -> str | None:
    """What the row's erasable column commits to: worked out where it is there, taken from the leaf where it is erased.

    The digest that is taken is not believed: it is part of what the leaf's hash is over.
    """
    if row.source not in ERASABLE:
        return None
    body = row.columns.get(ERASABLE[row.source]) or ""
    if leaf.body_salt is not None:
        digest = sealing.body_digest(body, leaf.body_salt)
        if digest == leaf.body_digest:
            return digest
        report.found("altered", row.source, row.key, leaf.seal, f"its {ERASABLE[row.source]} is not what was sealed")
        return leaf.body_digest
    if not body:
        report.erased.append(leaf)
        return leaf.body_digest
    return None


def _say_what_is_open(outside: Outside, report: Report) -> None:
    """What nothing from outside has shown."""
    if report.confirmations and not outside.pins:
        report.open.append(
            f"No thumbprint was given (--pin): whose key {', '.join(report.keys) or 'it'} is, is for you to compare "
            f"with what the bank publishes."
        )
    if outside.head is None:
        report.open.append(
            "No head was given from outside (--head): that seals were cut off at the end, or all rewritten by whoever "
            "has the merchant's key, cannot be seen."
        )
        if report.seal_keys and not outside.seal_pins:
            report.open.append(
                f"No thumbprint of the merchant's key was given (--seal-pin): whose key {', '.join(report.seal_keys)} "
                f"is, nothing shows."
            )
    elif report.last is not None and report.last.number > outside.head.number and not outside.seal_pins:
        report.open.append(
            f"Seals {outside.head.number + 1} to {report.last.number} came after the head from outside: they stand on "
            f"their own signatures only."
        )
    if report.unsigned and (outside.head is None or (report.last and report.last.number > outside.head.number)):
        report.open.append(f"Seals not signed: {report.unsigned}. Whoever can write to the database can make such.")
    waiting = sum(report.unsealed.values())
    if waiting:
        report.open.append(f"Rows not sealed yet: {waiting}. Nothing would show that they were altered.")
