"""The banks' own documents, as the judges of what we send and of what the dialects answer.

They are not ours to hand on: DEPOSIT_TOKEN_SPECS names the folder where they lie.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from openapi_schema_validator import OAS30Validator, oas30_format_checker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT4

FILES = {2: "jpmorgan-global-payments-2.0.22.yaml", 1: "jpmorgan-global-payments-1.1.11.yaml"}
WHERE = (
    "DEPOSIT_TOKEN_SPECS names no folder with {file}. J.P. Morgan publishes it on its developer portal, "
    "https://developer.payments.jpmorgan.com, under Global Payments (the OpenAPI document of that version)."
)


def require(version: int) -> None:
    """Skip the test where the document is not at hand."""
    folder = os.environ.get("DEPOSIT_TOKEN_SPECS", "")
    if not folder or not (Path(folder) / FILES[version]).is_file():
        pytest.skip(WHERE.format(file=FILES[version]))


@cache
def document(version: int) -> Any:
    """The document as it stands."""
    path = Path(os.environ["DEPOSIT_TOKEN_SPECS"]) / FILES[version]
    return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)


@cache
def _validator(version: int, pointer: str) -> Any:
    resource: Any = Resource.from_contents(document(version), default_specification=DRAFT4)
    registry: Any = Registry().with_resource("urn:bank", resource)
    return OAS30Validator({"$ref": f"urn:bank#{pointer}"}, registry=registry, format_checker=oas30_format_checker)


def check(version: int, schema: str, value: Any) -> None:
    """Raise AssertionError where `value` is not what the document's schema asks; a pointer may stand for the name."""
    pointer = schema if schema.startswith("/") else f"/components/schemas/{schema}"
    wrong = [f"{error.json_path}: {error.message[:200]}" for error in _validator(version, pointer).iter_errors(value)]
    assert wrong == [], f"not a {schema} of version {version}: {wrong}"


def response(name: str) -> str:
    """The pointer to the schema of one of the document's shared answers."""
    return f"/components/responses/{name}/content/application~1json/schema"
