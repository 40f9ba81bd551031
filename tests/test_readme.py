"""The README's shop, as it stands there, takes a payment at the sandbox bank."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from threading import Event, Thread
from types import ModuleType

import pytest
from werkzeug.serving import make_server

from deposit_token_sdk.sandbox import Sandbox

README = Path(__file__).resolve().parent.parent / "README.md"


def the_shop() -> str:
    found = re.search(r"^```python\n(.+?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Sandbox]:
    with Sandbox(tmp_path / "bank") as running:
        yield running


@pytest.fixture
def shop(bank: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    for name, value in bank.environment().items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "readme_shop.py"
    path.write_text(the_shop(), encoding="utf-8")
    spec = spec_from_file_location("readme_shop", path)
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "readme_shop", module)
    spec.loader.exec_module(module)
    yield module
    with module.app.app_context():
        module.db.session.remove()
        module.db.engine.dispose()


def test_the_shop_has_thirty_lines() -> None:
    assert len([line for line in the_shop().splitlines() if line.strip()]) <= 30


def test_the_shop_sells(bank: Sandbox, shop: ModuleType) -> None:
    buyer = shop.app.test_client()
    sent_to_bank = buyer.post("/buy")
    assert sent_to_bank.status_code == 303
    assert sent_to_bank.location.startswith(bank.url)

    (invoice,) = bank.control.invoices()
    order_page = f"/orders/{order_id_of(shop)}"
    assert buyer.get(order_page).json == {"status": "new"}

    bank.control.pay(invoice["id"])
    assert buyer.get(order_page).json == {"status": "paid"}
    assert bank.control.audit() == []


def test_the_bank_tells_the_shop_by_webhook(bank: Sandbox, shop: ModuleType) -> None:
    server = make_server("127.0.0.1", 0, shop.app, threaded=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        bank.control.set_webhook_url(f"http://127.0.0.1:{server.server_port}/webhooks/sandbox-bank")
        shop.app.test_client().post("/buy")
        bank.control.pay(bank.control.invoices()[0]["id"])
        wait_until(lambda: bank.control.webhooks()[-1]["state"] == "delivered")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert status_of(shop) == "paid"


def wait_until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    moment, ends = Event(), time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends, "it did not happen"
        moment.wait(0.02)


def status_of(shop: ModuleType) -> str:
    with shop.app.app_context():
        status: str = shop.db.session.query(shop.Order).one().status
        return status


def order_id_of(shop: ModuleType) -> str:
    with shop.app.app_context():
        order_id: str = shop.db.session.query(shop.Order).one().id
        return order_id
