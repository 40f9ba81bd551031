"""Evidence as files: how a shop's confirmations, rows, leaves and seals are written into a folder, and read again.

JSON lines in UTF-8, one file a table, sorted, with nothing in it that depends on when or where it was written: the same
database gives the same bytes. Reading needs no database, and only reads: what it is worth is `proving`'s affair.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from attrs import asdict, frozen

from deposit_token_sdk.checkout.seal import SOURCES, Leaf, Row, Seal, Snapshot, head_digest, read_head
from deposit_token_sdk.errors import InvalidInput, Unreadable
from deposit_token_sdk.signing import strict_json

FORMAT: Final = "deposit-token-evidence"
HEAD_FORMAT: Final = "deposit-token-head"
VERSION: Final = 1
_ABOUT: Final = "format.json"
_LEAVES: Final = "leaves.jsonl"
_SEALS: Final = "seals.jsonl"
HEAD: Final = "head.json"


def write(folder: Path, snapshot: Snapshot) -> dict[str, int]:
    """Write everything into a new folder that only its owner can read; how many lines each file got.

    `format.json` is written last: without it an export was cut off. Raises InvalidInput (``folder_in_use``).
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise InvalidInput("folder_in_use", f"{folder} is not empty: an export is never written over. Name a new one.")
    counts = {
        source: _lines(folder / f"{source}.jsonl", (_row_line(*row) for row in snapshot.rows(source)))
        for source in sorted(SOURCES)
    }
    counts["leaves"] = _lines(folder / _LEAVES, map(asdict, snapshot.leaves()))
    last: list[Seal] = []
    counts["seals"] = _lines(folder / _SEALS, (_seal_line(seal, last) for seal in snapshot.seals()))
    if last:
        (folder / HEAD).write_bytes(head_file(last[0]))
    about = {"format": FORMAT, "version": VERSION, "installation": snapshot.installation}
    (folder / _ABOUT).write_bytes(strict_json.dumps(about) + b"\n")
    return counts


def head_file(seal: Seal) -> bytes:
    """The end of the chain as a file of its own, to be kept where the shop's database cannot be written from."""
    about = {"format": HEAD_FORMAT, "version": VERSION, "digest": head_digest(seal.head)}
    return strict_json.dumps({**about, **asdict(seal)}) + b"\n"


def read_head_file(path: Path) -> Seal:
    """The head that was kept elsewhere. Raises Unreadable: ``not_a_head`` where its digest is not that of its text."""
    members = _object(path)
    _require_format(path, members, HEAD_FORMAT)
    seal = _seal(members)
    read_head(seal.head)
    if strict_json.text(members, "digest") != head_digest(seal.head):
        raise Unreadable("not_a_head", f"{path}: the digest is not that of the head beside it.", field="digest")
    return seal


@frozen
class Archive:
    """An exported folder, read line by line. Each method raises Unreadable, naming file and line."""

    folder: Path
    installation: str

    @classmethod
    def open(cls, folder: Path) -> Archive:
        """The export in this folder. Raises Unreadable: ``not_an_export``, ``version_unknown``."""
        if not (folder / _ABOUT).is_file():
            raise Unreadable("not_an_export", f"{folder} holds no {_ABOUT}: it is no export, or one that was cut off.")
        members = _object(folder / _ABOUT)
        _require_format(folder / _ABOUT, members, FORMAT)
        return cls(folder, strict_json.text(members, "installation"))

    def seals(self) -> Iterator[Seal]:
        """The chain, in the order of the file."""
        return map(_seal, _objects(self.folder / _SEALS))

    def leaves(self) -> Iterator[Leaf]:
        """All leaves, in the order of the file."""
        return map(_leaf, _objects(self.folder / _LEAVES))

    def rows(self, source: str) -> Iterator[tuple[Row, int | None]]:
        """The rows of one table, each with the number of the seal that it says it is under."""
        return (_row(source, members) for members in _objects(self.folder / f"{source}.jsonl"))


# -- one line ----------------------------------------------------------------------------------------------------


def _row_line(row: Row, sealed: int | None) -> dict[str, Any]:
    return {"key": row.key, "sealed": sealed, "row": dict(sorted(row.columns.items()))}


def _row(source: str, members: dict[str, Any]) -> tuple[Row, int | None]:
    columns = strict_json.member(members, "row")
    texts = {name: strict_json.optional_text(columns, name) for name in columns}
    missing = [name for name in SOURCES[source] if texts.get(name) is None]
    if missing:
        raise Unreadable("missing_field", f"A row lacks {', '.join(missing)}.", field=missing[0])
    sealed = None if members.get("sealed") is None else strict_json.integer(members, "sealed")
    return Row(source, strict_json.text(members, "key"), texts), sealed


def _leaf(members: dict[str, Any]) -> Leaf:
    text, optional = strict_json.text, strict_json.optional_text
    return Leaf(
        source=text(members, "source"),
        key=text(members, "key"),
        seal=strict_json.integer(members, "seal"),
        salt=text(members, "salt"),
        hash=text(members, "hash"),
        body_salt=optional(members, "body_salt"),
        body_digest=optional(members, "body_digest"),
        erased_at=optional(members, "erased_at"),
    )


def _seal_line(seal: Seal, last: list[Seal]) -> dict[str, Any]:
    last[:] = [seal]
    return asdict(seal)


def _seal(members: dict[str, Any]) -> Seal:
    text, optional = strict_json.text, strict_json.optional_text
    return Seal(
        strict_json.integer(members, "number"),
        text(members, "head"),
        optional(members, "statement"),
        optional(members, "keys"),
    )


# -- files -------------------------------------------------------------------------------------------------------


def _lines(path: Path, lines: Iterable[dict[str, Any]]) -> int:
    count = 0
    with path.open("wb") as file:
        for line in lines:
            file.write(strict_json.dumps(line) + b"\n")
            count += 1
    return count


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield _parsed(line, f"{path}, line {number}")
    except OSError as error:
        raise Unreadable("no_file", f"{path} cannot be read: {error.strerror}.") from None


def _object(path: Path) -> dict[str, Any]:
    try:
        return _parsed(path.read_bytes(), str(path))
    except OSError as error:
        raise Unreadable("no_file", f"{path} cannot be read: {error.strerror}.") from None


def _parsed(data: bytes, where: str) -> dict[str, Any]:
    try:
        return strict_json.parse(data)
    except Unreadable as error:
        raise Unreadable(error.reason, f"{where}: {error}", field=error.field) from None


def _require_format(path: Path, members: dict[str, Any], wanted: str) -> None:
    if members.get("format") != wanted:
        raise Unreadable("not_an_export", f"{path} is not of the format {wanted!r}.", field="format")
    if members.get("version") != VERSION:
        raise Unreadable(
            "version_unknown",
            f"{path} is of version {str(members.get('version'))[:20]}; this program reads version {VERSION}: take a "
            f"newer one.",
            field="version",
        )
