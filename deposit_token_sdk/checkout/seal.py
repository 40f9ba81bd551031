"""Sealing: what was written once shows ever after if it is removed or altered.

New rows of the tables that only grow are put under a Merkle root, the root is chained to the last one, and the head of
the chain is signed with the merchant's key. It runs behind the orders and never in their way: rows are read without a
lock and one short transaction writes the seal; what a seal is worth is `proving`'s affair. A leaf is salted, so that
its hash alone gives nothing away, and commits to an erasable column by a salted digest of its own: once value and salt
are gone the digest says nothing, and the rest of the row is still proven.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Protocol

from attrs import frozen

from deposit_token_sdk.checkout import merkle
from deposit_token_sdk.errors import Unreadable
from deposit_token_sdk.issuers.protocol import SignsSeals
from deposit_token_sdk.signing import strict_json
from deposit_token_sdk.signing.base64url import decode_url, encode_url

if TYPE_CHECKING:
    from deposit_token_sdk.client import Client
    from deposit_token_sdk.issuers.protocol import Issuer

_LOG = logging.getLogger("deposit_token_sdk")

SOURCES: Final[dict[str, tuple[str, ...]]] = {
    "evidence": ("number",),
    "fulfilments": ("order_id",),
    "reviews": ("number",),
    "decisions": ("review",),
    "events": ("issuer", "key"),
}
"""The tables that are sealed, each with the columns that name a row: those whose rows, once committed, never change.

They are sealed in this order, the many events last, so that they hold up nothing.
"""

ERASABLE: Final = {"events": "body"}
"""The one column of a table that may hold a buyer's personal data, and can be erased without harm to the proof."""

SALT_BYTES: Final = 16


@frozen
class Row:
    """One row that is to be sealed, as text: `key` is a JSON array of the columns that name it."""

    source: str
    key: str
    columns: Mapping[str, str | None]


@frozen
class Leaf:
    """What is kept beside a sealed row, base64url: its salt, its hash, and the commitment to its erasable column.

    `body_salt` is None once the column has been erased (`erased_at` says when), and where the table has none.
    """

    source: str
    key: str
    seal: int
    salt: str
    hash: str
    body_salt: str | None = None
    body_digest: str | None = None
    erased_at: str | None = None


@frozen
class Head:
    """What is signed: the root over `size` rows, and the digest of the head before. `rows` counts all seals' rows."""

    installation: str
    number: int
    previous: str | None
    root: str
    size: int
    rows: int
    at: datetime


@frozen
class Seal:
    """One link of the chain. `head` is JSON text; `statement` the JWS whose payload is exactly that, by `keys`.

    Both are None where the checkout has no key to sign with: then only a head that is kept elsewhere proves anything.
    """

    number: int
    head: str
    statement: str | None = None
    keys: str | None = None

    @property
    def size(self) -> int:
        """How many rows this seal is over."""
        return read_head(self.head).size


class Snapshot(Protocol):
    """All that is to be exported, as it stood at one moment, in an order that does not change."""

    @property
    def installation(self) -> str:
        """The random id of this shop's database; empty before there is one."""
        ...

    def seals(self) -> Iterator[Seal]: ...

    def leaves(self) -> Iterator[Leaf]: ...

    def rows(self, source: str) -> Iterator[tuple[Row, int | None]]:
        """Every row of the table, and the number of its seal; None where it is not sealed yet."""
        ...


class Seals(Protocol):
    """The sealer's side of a store. Each method is a transaction of its own."""

    def last(self) -> Seal | None:
        """The end of the chain."""
        ...

    def unsealed(self, limit: int) -> tuple[Row, ...]:
        """Committed rows without a seal, read without a lock; at most `limit` over all tables."""
        ...

    def waiting(self) -> tuple[int, datetime | None]:
        """How many rows are not sealed yet, and since when the oldest of them stands."""
        ...

    def add(self, seal: Seal, leaves: Sequence[Leaf]) -> bool:
        """Write the seal with its leaves and mark their rows; False, and nothing written, if its number is taken."""
        ...

    def erase(self, before: datetime, at: datetime) -> int:
        """Erase what may be personal and is older than `before`; unsealed rows are left. How many rows it was."""
        ...

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """A view of everything as of now, open until the block ends; it stands in nobody's way."""
        ...


class Sealed(Protocol):
    """As much of a store as the sealer needs."""

    @property
    def seals(self) -> Seals: ...

    def installation(self) -> str: ...


# -- pure --------------------------------------------------------------------------------------------------------


def body_digest(body: str, salt: str) -> str:
    """The commitment to an erasable column: SHA-256 over 0x02, the salt and the text in UTF-8."""
    return encode_url(sha256(b"\x02" + decode_url(salt) + body.encode()).digest())


def leaf_hash(row: Row, salt: str, body: str | None) -> str:
    """RFC 6962's hash of a leaf: its salt, then the row as JSON, names sorted; of an erasable column the commitment."""
    columns: dict[str, Any] = dict(sorted(row.columns.items()))
    if row.source in ERASABLE:
        columns[ERASABLE[row.source]] = body
    data = strict_json.dumps({"row": columns, "source": row.source})
    return encode_url(merkle.leaf(decode_url(salt) + data))


def leaf_of(row: Row, seal: int, new_salt: Callable[[], bytes]) -> Leaf:
    """The leaf of a row that is sealed now."""
    salt, body_salt, digest = encode_url(new_salt()), None, None
    if row.source in ERASABLE:
        body_salt = encode_url(new_salt())
        digest = body_digest(row.columns[ERASABLE[row.source]] or "", body_salt)
    return Leaf(row.source, row.key, seal, salt, leaf_hash(row, salt, digest), body_salt, digest)


def root_of(hashes: Iterable[str]) -> str:
    """The root over hashes of leaves, sorted, so that there is one order and nobody has to keep it."""
    return encode_url(merkle.root([decode_url(text) for text in sorted(hashes)]))


def head_digest(head: str) -> str:
    """What the next head repeats, and what is worth writing down elsewhere: base64url of SHA-256 over the JSON text."""
    return encode_url(sha256(head.encode()).digest())


def write_head(head: Head) -> str:
    """A head as the JSON text that is signed and chained."""
    return strict_json.dumps(
        {
            "installation": head.installation,
            "number": head.number,
            "previous": head.previous,
            "root": head.root,
            "size": head.size,
            "rows": head.rows,
            "at": strict_json.rfc3339(head.at),
        }
    ).decode()


def read_head(text: str) -> Head:
    """What `write_head` wrote. Raises Unreadable."""
    members = strict_json.parse(text.encode())
    return Head(
        installation=strict_json.text(members, "installation"),
        number=strict_json.integer(members, "number"),
        previous=strict_json.optional_text(members, "previous"),
        root=strict_json.text(members, "root"),
        size=strict_json.integer(members, "size"),
        rows=strict_json.integer(members, "rows"),
        at=strict_json.moment(members, "at"),
    )


def next_head(last: Seal | None, leaves: Sequence[Leaf], installation: str, at: datetime) -> Head:
    """The head over these leaves, chained to the last seal. The first one has no head before it."""
    return Head(
        installation=installation,
        number=1 if last is None else last.number + 1,
        previous=None if last is None else head_digest(last.head),
        root=root_of(leaf.hash for leaf in leaves),
        size=len(leaves),
        rows=len(leaves) + _rows(last),
        at=at,
    )


def _rows(last: Seal | None) -> int:
    """A head that somebody has spoilt stops no sealer; verifying names it."""
    try:
        return 0 if last is None else read_head(last.head).rows
    except Unreadable:
        return 0


# -- at the edge -------------------------------------------------------------------------------------------------


def seal(store: Sealed, clients: Iterable[Client], at: datetime, limit: int) -> Seal | None:
    """Seal what is not sealed yet, at most `limit` rows; None where there is nothing.

    The end of the chain is read before the rows: if another sealer is quicker this seal's number is taken, nothing of
    it is written, and it begins again with what is left.
    """
    issuers = [client.issuer for client in clients]
    installation = store.installation()
    while True:
        last = store.seals.last()
        rows = store.seals.unsealed(limit)
        if not rows:
            return None
        number = 1 if last is None else last.number + 1
        leaves = [leaf_of(row, number, _new_salt) for row in rows]
        head = write_head(next_head(last, leaves, installation, at))
        made = Seal(number, head, *_signed(head, issuers))
        if store.seals.add(made, leaves):
            if made.statement is None and (last is None or last.statement is not None):
                _LOG.warning("Seal %d is not signed: no client has a signing key. Keep its head elsewhere.", number)
            return made


def _signed(head: str, issuers: Iterable[Issuer]) -> tuple[str, str] | tuple[None, None]:
    """The head's JWS by the first client that has the merchant's key, and that key's public half as a JWK set."""
    for issuer in issuers:
        signed = issuer.sign_seal(head.encode()) if isinstance(issuer, SignsSeals) else None
        if signed is not None:
            return signed
    return None, None


def erase(store: Sealed, clients: Iterable[Client], before: datetime, at: datetime) -> int:
    """Erase raw bodies and other personal data older than `before`, once all is sealed; how many rows it was."""
    known = list(clients)
    while seal(store, known, at, 1_000) is not None:
        pass
    return store.seals.erase(before, at)


def _new_salt() -> bytes:
    return secrets.token_bytes(SALT_BYTES)
