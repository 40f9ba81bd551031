"""The shops of docs/database.md, as they stand there, are paid on SQLite and on PostgreSQL."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
import sqlalchemy as sa

from deposit_token_sdk import Checkout, Money
from deposit_token_sdk.sandbox import Sandbox
from tests.databases import ON_BOTH, address

pytestmark = ON_BOTH

_numbers = itertools.count(1)

PAGE = (Path(__file__).parents[2] / "docs/database.md").read_text(encoding="utf-8")
PLAIN, FLASK = re.findall(r"^```python\n(import os\n.+?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def load(
    bank: Sandbox, database: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], ModuleType]:
    """Runs a shop's source as a module, with the settings of a new merchant."""
    settings = bank.control.create_merchant(f"page-{next(_numbers)}")
    for name, value in {**settings, "SHOP_DATABASE": address(database)}.items():
        monkeypatch.setenv(name, value)

    def run(source: str) -> ModuleType:
        path = tmp_path / "shop_of_the_page.py"
        path.write_text(source, encoding="utf-8")
        spec = spec_from_file_location("shop_of_the_page", path)
        assert spec
        assert spec.loader
        module = module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "shop_of_the_page", module)
        spec.loader.exec_module(module)
        return module

    return run


def buy(bank: Sandbox, checkout: Checkout) -> None:
    attempt = checkout.start(
        order_id="A-1",
        price=Money("128.50", "EUR"),
        token="SBUSD",
        buyer_country="DE",
        content="basket-1",
        return_url="http://127.0.0.1:9/orders/A-1",
    )
    bank.control.pay(attempt.reference)
    assert checkout.refresh("A-1").paid


def test_a_shop_with_a_sessionmaker(bank: Sandbox, load: Callable[[str], ModuleType]) -> None:
    shop = load(PLAIN)
    with shop.engine.begin() as connection:
        connection.execute(sa.insert(shop.orders).values(id="A-1", status="open"))
    buy(bank, shop.checkout)
    with shop.session() as session:
        assert session.scalars(sa.select(shop.orders.c.status)).all() == ["paid"]
    shop.engine.dispose()


def test_a_shop_with_flask_sqlalchemy(bank: Sandbox, load: Callable[[str], ModuleType]) -> None:
    shop = load(FLASK)
    with shop.app.app_context():
        shop.db.session.add(shop.Order(id="A-1", status="open"))
        shop.db.session.commit()
        buy(bank, shop.checkout)
        assert shop.db.session.get_one(shop.Order, "A-1").status == "paid"
        shop.db.session.remove()
        shop.db.engine.dispose()
