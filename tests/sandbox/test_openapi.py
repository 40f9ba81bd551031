"""The bank's description of its API is valid, and true."""

from __future__ import annotations

import yaml
from openapi_spec_validator import validate

from deposit_token_sdk.sandbox import Sandbox
from deposit_token_sdk.sandbox.api import ROUTES
from deposit_token_sdk.sandbox.problems import CODES
from tests.sandbox.shop import DESCRIPTION, Shop


def test_the_description_is_valid_openapi() -> None:
    validate(DESCRIPTION)


def test_every_route_is_described_under_its_name_with_its_status() -> None:
    described = {
        f"{method.upper()} {path}": (
            item[method]["operationId"],
            {s for s in item[method]["responses"] if s != "default"},
        )
        for path, item in DESCRIPTION["paths"].items()
        for method in ("get", "post")
        if method in item
    }
    for name in ("GET /.well-known/jwks.json", "GET /openapi.yaml"):
        described.pop(name)
    assert described == {route.template: (route.name, {str(route.status)}) for route in ROUTES}


def test_every_code_the_bank_can_answer_is_described() -> None:
    described = DESCRIPTION["components"]["schemas"]["Problem"]["properties"]["type"]["enum"]
    assert described == [f"/problems/{code}" for code in CODES]


def test_the_bank_serves_the_description_and_its_keys_unsigned(bank: Sandbox, shop: Shop) -> None:
    answer = shop.http.get(f"{bank.url}/openapi.yaml")
    assert yaml.safe_load(answer.content) == DESCRIPTION
    assert shop.keys().keys
