"""Ant's own Python client (global-open-sdk-python, in an environment of its own) against our Antom dialect.

Its code is as it comes. It dials port 443 and verifies TLS: its process trusts the bank's authority (SSL_CERT_FILE),
and a `sitecustomize` on its path leads port 443 to the dialect's port.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from deposit_token_sdk.sandbox import Sandbox
from deposit_token_sdk.signing.keys import KeySet
from tests.sandbox.shop import Inbox

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent / "antom_peer"
PEER = "global-open-sdk-python==1.7.1"
ID = "k7Qm2xVb0001"


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python that has Ant's client: the one that `make test` has made, or one made now."""
    made = ROOT / ".venv/antom/bin/python"
    if made.exists():
        return made
    folder = tmp_path_factory.mktemp("antom")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = str(folder / "bin/python")
    subprocess.run([sys.executable, "-m", "pip", "--python", python, "install", "--quiet", PEER], check=True)
    return folder / "bin/python"


@frozen
class Peer:
    """Ant's client as a merchant of the bank."""

    python: Path
    bank: Sandbox
    config: dict[str, str]

    def does(self, what: str, **asked: Any) -> Any:
        """What one call of the client came to; it raises where an answer's signature does not verify."""
        done = self.run(what, **asked)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def run(self, what: str, **asked: Any) -> subprocess.CompletedProcess[str]:
        environ = {
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": str(HERE),
            "SSL_CERT_FILE": str(self.bank.ca_file),
            "DIALECT_PORT": self.bank.tls_url.rpartition(":")[2],
        }
        return subprocess.run(
            [self.python, HERE / "run.py"],
            input=json.dumps(self.config | {"do": what} | asked),
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Sandbox]:
    with Sandbox(tmp_path / "bank", webhook_schedule=(0.0, 0.1), tls_port=0) as running:
        yield running
        assert running.control.audit() == []


@pytest.fixture
def peer(bank: Sandbox, python: Path) -> Peer:
    told = bank.environment(dialect="antom")
    pem = Path(told["DEPOSIT_TOKEN_SIGNING_KEY_FILE"]).read_bytes()
    private = load_pem_private_key(pem, password=None)
    pkcs1 = private.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    (shown,) = KeySet.from_jwks(told["DEPOSIT_TOKEN_ANTOM_PUBLIC_KEY"].encode()).keys
    spki = shown.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    config = {
        "gateway": "https://localhost",
        "client_id": told["DEPOSIT_TOKEN_MERCHANT"],
        "private_key": base64.encodebytes(pkcs1).decode().strip(),
        "public_key": base64.encodebytes(spki).decode().strip(),
    }
    return Peer(python, bank, config)


def usd(value: str) -> dict[str, str]:
    return {"currency": "USD", "value": value}


def a_session(peer: Peer, **changes: Any) -> Any:
    return peer.does("session", **({"id": ID, "price": usd("12850"), "due": usd("12850"), "method": "SBUSD"} | changes))


def test_it_buys_in_another_currency_under_a_rate_lock_and_sends_part_of_it_back(bank: Sandbox, peer: Peer) -> None:
    lock = peer.does("quote", buy={"currency": "EUR", "value": "12850"}, sell={"currency": "USD"})
    due = lock["quote"]["exchangeAmount"]
    session = a_session(peer, price={"currency": "EUR", "value": "12850"}, due=due, quote=lock["quote"])
    assert session["result"]["resultStatus"] == "S"
    assert session["normalUrl"].startswith(bank.url)
    bank.control.pay(ID)
    paid = peer.does("inquire", id=ID)
    assert (paid["paymentStatus"], paid["paymentAmount"], paid["actualPaymentAmount"]) == ("SUCCESS", due, due)
    refunded = peer.does("refund", id="refund-2026-1", payment=paid["paymentId"], amount=usd("500"))
    assert (refunded["result"]["resultStatus"], refunded["refundAmount"]) == ("S", usd("500"))
    again = peer.does("refund", id="refund-2026-1", payment=paid["paymentId"], amount=usd("500"))
    assert again["refundId"] == refunded["refundId"]
    booked = [(entry["kind"], entry["units"]) for entry in bank.control.ledger(ID)]
    assert ("payment", due["value"]) in booked
    assert booked.count(("refund", "500")) == 1


def test_its_check_of_notifications_takes_ours_and_no_other(bank: Sandbox, peer: Peer) -> None:
    with closing(Inbox()) as inbox:
        bank.control.set_webhook_url(inbox.url)
        a_session(peer)
        bank.control.pay(ID)
        with inbox._news:
            assert inbox._news.wait_for(lambda: inbox.messages, timeout=10)
        headers, body = inbox.messages[0]
        bank.control.set_webhook_url(None)
    told = {
        "path": "/webhooks/sandbox-bank",
        "client": headers["client-id"],
        "time": headers["request-time"],
        "signature": headers["signature"],
        "body": body.decode(),
    }
    assert json.loads(body)["notifyType"] == "PAYMENT_RESULT"
    assert peer.does("check", **told) is True
    assert peer.run("check", **told | {"body": body.decode().replace("SUCCESS", "FAILURE")}).returncode != 0


def test_it_refuses_an_answer_that_another_key_has_signed(peer: Peer) -> None:
    a_session(peer)
    strange = rsa.generate_private_key(65537, 2048).public_key()
    shown = base64.encodebytes(strange.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode().strip()
    done = peer.run("inquire", id=ID, public_key=shown)
    assert done.returncode != 0
    assert "verify" in done.stderr.lower()


def test_a_refusal_is_signed_too(peer: Peer) -> None:
    assert peer.does("inquire", id="nobody-s")["result"]["resultCode"] == "ORDER_NOT_EXIST"
    refused = a_session(peer, due=usd("12851"))
    assert (refused["result"]["resultCode"], refused["result"]["resultStatus"]) == ("PARAM_ILLEGAL", "F")
