from __future__ import annotations

from pathlib import Path

from deposit_token_sdk.issuers.antom.options import TABLE

PAGE = Path(__file__).resolve().parents[2] / "docs/issuers/antom.md"


def test_every_setting_of_its_own_is_documented_as_it_is() -> None:
    rows = PAGE.read_text(encoding="utf-8").splitlines()
    told = {name: "required" if default is None else "" for name, (default, _) in TABLE.items()}
    wanted = [f"| `{name}` | {told[name]} | {meaning} |" for name, (_, meaning) in TABLE.items()]
    assert [row for row in wanted if row not in rows] == []
