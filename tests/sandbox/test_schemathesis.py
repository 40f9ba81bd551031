"""Requests made up from the API's own description, well formed and not: whatever comes, the bank never fails."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from requests.auth import AuthBase
from schemathesis.checks import not_a_server_error

from deposit_token_sdk.sandbox import Sandbox
from deposit_token_sdk.signing import http_signatures
from deposit_token_sdk.signing.keys import SigningKey
from tests.sandbox.shop import DESCRIPTION, Shop

schema = schemathesis.openapi.from_dict(DESCRIPTION)


class Signed(AuthBase):
    """Signs a request as it goes out, so that the bank reads what is in it and not only its headers."""

    def __init__(self, key: SigningKey) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        body = request.body.encode() if isinstance(request.body, str) else request.body
        headers = {name.lower(): str(value) for name, value in request.headers.items()}
        assert request.method is not None
        assert request.url is not None
        added = http_signatures.sign_request(
            request.method,
            request.url,
            headers,
            body if isinstance(body, bytes) else None,
            self._key,
            created=int(time.time()),
            nonce=secrets.token_hex(12),
        )
        request.headers.update(added)
        return request


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """One for all operations, since nothing here is asserted of what stands in its books but that they hold."""
    with Sandbox(tmp_path_factory.mktemp("bank"), webhook_schedule=(0.0, 0.02, 0.02)) as running:
        yield running
        assert running.control.audit() == []


@pytest.fixture
def there(bank: Sandbox, shop: Shop) -> dict[str, Any]:
    """What exists at the bank, under the names by which requests ask for it."""
    invoice = shop.invoice()
    bank.control.pay(invoice["id"])
    quote = shop.quote().body
    return {
        **shop.order(quote),
        "id": {"invoices": invoice["id"], "refunds": shop.refund(invoice, 1).body["id"]},
        "code": "SBUSD",
        "token": "SBUSD",
        "invoice": invoice["id"],
    }


@schema.parametrize()
@settings(
    max_examples=6,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    database=None,
)
def test_no_request_that_the_description_can_make_up_fails_the_bank(
    case: Any, bank: Sandbox, shop: Shop, there: dict[str, Any]
) -> None:
    for meant in (case, aimed(case, there)):
        response = meant.call(base_url=bank.url, session=shop.http, auth=Signed(shop.key))
        meant.validate_response(response, checks=[not_a_server_error])


def aimed(case: Any, there: dict[str, Any]) -> Any:
    """The same request about things that exist, so that it comes further than to "no such invoice"."""
    named = {**there, "id": there["id"].get(case.path.split("/")[1], "")}
    for part in (case.path_parameters, case.body):
        if isinstance(part, dict):
            part |= {name: named[name] for name in part if name in named and name != "capture"}
    if isinstance(case.body, dict) and isinstance(case.body.get("price"), dict):
        case.body["price"]["currency"] = "EUR"
    return case
