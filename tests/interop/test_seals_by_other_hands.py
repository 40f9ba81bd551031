"""An export judged by what docs/evidence.md says of its format, with joserfc and the standard library alone."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwk, jws
from sqlalchemy import Engine

from tests.checkout.sealed import AT, Keeper, days


def octets(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def written(digest: bytes) -> str:
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def tree(hashes: list[bytes]) -> bytes:
    if len(hashes) == 1:
        return hashes[0]
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return sha256(b"\x01" + tree(hashes[:split]) + tree(hashes[split:])).digest()


@pytest.fixture
def export(database: Engine, tmp_path: Path) -> Path:
    keeper = Keeper(database)
    keeper.everything()
    keeper.events(8, at=AT - days(400), body='Zoë \U0001f375 "\\ \n\x1f')
    keeper.events(9, body='Zoë \U0001f375 "\\ \n\x1f')
    keeper.checkout.erase(AT - days(365))
    keeper.checkout.seal()
    return keeper.export(tmp_path / "export")


def test_leaves_roots_chain_and_signatures_follow_from_the_documented_format(export: Path) -> None:
    rows = {
        (file.stem, line["key"]): line
        for file in export.glob("*.jsonl")
        if file.stem not in ("leaves", "seals")
        for line in lines(file)
    }
    leaves: dict[int, list[str]] = {}
    erased = 0
    for leaf in lines(export / "leaves.jsonl"):
        line = rows.pop((leaf["source"], leaf["key"]))
        assert line["sealed"] == leaf["seal"]
        columns = line["row"]
        if leaf["source"] == "events":
            if leaf["body_salt"]:
                body = b"\x02" + octets(leaf["body_salt"]) + columns["body"].encode()
                assert written(sha256(body).digest()) == leaf["body_digest"]
            else:
                erased += 1
                assert (columns["body"], leaf["erased_at"] is None) == ("", False)
            columns["body"] = leaf["body_digest"]
        data = json.dumps(
            {"row": columns, "source": leaf["source"]}, sort_keys=True, separators=(",", ":"), ensure_ascii=False
        )
        assert written(sha256(b"\x00" + octets(leaf["salt"]) + data.encode()).digest()) == leaf["hash"]
        leaves.setdefault(leaf["seal"], []).append(leaf["hash"])
    assert (rows, erased) == ({}, 1)

    previous, total = None, 0
    for number, seal in enumerate(lines(export / "seals.jsonl"), 1):
        head = json.loads(seal["head"])
        hashes = sorted(leaves.pop(number))
        total += len(hashes)
        assert head["root"] == written(tree([octets(one) for one in hashes]))
        assert (head["number"], head["size"], head["rows"]) == (number, len(hashes), total)
        assert head["previous"] == previous
        previous = written(sha256(seal["head"].encode()).digest())
        keys = jwk.KeySet.import_key_set(json.loads(seal["keys"]))
        signed = jws.deserialize_compact(seal["statement"], keys, algorithms=["Ed25519"])
        assert (signed.payload, signed.headers()["typ"]) == (seal["head"].encode(), "deposit-seal+jws")
    assert leaves == {}
    assert json.loads((export / "head.json").read_text())["digest"] == previous
