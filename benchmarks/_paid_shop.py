"""Two shops for one bank's webhooks, as gunicorn serves them: one on this SDK, one whose route is written by hand.

The hand-written route verifies the webhook's signature and the statement's with pyca/cryptography, compares what the
statement says with the order, inserts the event, marks the order paid and commits, in one transaction of the same
SQLAlchemy session on the same engine. It does no more than that: no key but the one expected, no movement or amount
added up, no stored evidence, no review, no lock against a refund or a second attempt, no reason given for what it
refuses, and no later check that what it stored was true.
"""

from __future__ import annotations

import json
import os
from base64 import b64decode, urlsafe_b64decode
from collections.abc import Callable
from time import time
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from flask import Flask, abort, request
from sqlalchemy import Column, Engine, MetaData, Table, Text, create_engine, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, sessionmaker

from benchmarks._orders import orders
from deposit_token_sdk import Checkout, Client, SqlStore
from deposit_token_sdk.checkout.hooks import Paid
from deposit_token_sdk.checkout.sql import prepare_sqlite
from deposit_token_sdk.integrations.flask import webhooks

DATABASE: Final = "BENCHMARK_DATABASE"
"""The environment variable that names the database, as a SQLAlchemy URL."""

BY_HAND = MetaData()
hand_orders = Table(
    "hand_orders",
    BY_HAND,
    *(Column(name, Text, nullable=False) for name in ("id", "due", "quote_digest", "status")),
    Column("reference", Text, primary_key=True),
)
hand_events = Table(
    "hand_events",
    BY_HAND,
    Column("id", Text, primary_key=True),
    *(Column(name, Text, nullable=False) for name in ("reference", "received_at", "body")),
)


def engine_of(url: str) -> Engine:
    """The shop's engine, with the settings that money needs."""
    engine = create_engine(url)
    prepare_sqlite(engine)
    return engine


def ours() -> Flask:
    """The shop on this SDK: a blueprint and a hook."""
    app = Flask("ours")
    app.register_blueprint(webhooks(checkout_on(Client.from_env(), sessionmaker(engine_of(os.environ[DATABASE])))))
    return app


def checkout_on(client: Client, sessions: sessionmaker[Session]) -> Checkout:
    """The checkout, and the shop's hook that marks the order paid."""
    checkout = Checkout(client, SqlStore(sessions))

    @checkout.on_paid
    def fulfil(paid: Paid, session: Session) -> None:
        session.execute(update(orders).where(orders.c.id == paid.order_id).values(status="paid"))

    return checkout


def by_hand() -> Flask:
    """The shop without it."""
    engine = engine_of(os.environ[DATABASE])
    sessions = sessionmaker(engine)
    insert: Callable[[Table], Any] = (sqlite if engine.dialect.name == "sqlite" else postgresql).insert
    new_event = insert(hand_events).on_conflict_do_nothing().returning(hand_events.c.id)
    merchant = os.environ["DEPOSIT_TOKEN_MERCHANT"]
    webhook_key = Ed25519PublicKey.from_public_bytes(
        b64decode(os.environ["DEPOSIT_TOKEN_WEBHOOK_KEYS"].removeprefix("whpk_"))
    )
    with open(os.environ["DEPOSIT_TOKEN_JWKS_FILE"], "rb") as file:  # noqa: PTH123  # as such a route has it
        keys = {key["kid"]: _p256(key) for key in json.load(file)["keys"] if key["kty"] == "EC"}
    app = Flask("by_hand")

    @app.post("/webhooks/<bank>")
    def receive(bank: str) -> str:
        body = request.get_data()
        event_id, sent_at = request.headers["webhook-id"], request.headers["webhook-timestamp"]
        if abs(time() - int(sent_at)) > 300:
            abort(400)
        version, _, signature = request.headers["webhook-signature"].partition(",")
        data = json.loads(body)["data"]
        header, payload, written = data["statement"].split(".")
        head, claims = _json(header), _json(payload)
        try:
            webhook_key.verify(b64decode(signature), f"{event_id}.{sent_at}.".encode() + body)
            raw = _bytes(written)
            der = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
            keys[head["kid"]].verify(der, f"{header}.{payload}".encode(), ec.ECDSA(SHA256()))
        except InvalidSignature:
            abort(400)
        right = (version, head["alg"], head["typ"], claims["iss"], claims["aud"], claims["mode"])
        if right != ("v1a", "ES256", "deposit-settlement+jws", bank, merchant, "test"):
            abort(400)
        with sessions.begin() as session:
            row = {"id": event_id, "reference": claims["reference"], "received_at": sent_at, "body": body.decode()}
            if session.execute(new_event, row).first() is None:
                return "repeated\n"
            mine = hand_orders.c.reference == claims["reference"]
            same = (hand_orders.c.due == claims["units"], hand_orders.c.quote_digest == claims["quote_digest"])
            paid = update(hand_orders).where(mine, *same, hand_orders.c.status == "open").values(status="paid")
            if session.execute(paid.returning(hand_orders.c.id)).first() is None:
                abort(409)
        return "applied\n"

    return app


def _p256(key: dict[str, str]) -> ec.EllipticCurvePublicKey:
    x, y = (int.from_bytes(_bytes(key[name])) for name in ("x", "y"))
    return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()


def _json(part: str) -> dict[str, Any]:
    return json.loads(_bytes(part))  # type: ignore[no-any-return]  # a statement's header and claims are objects


def _bytes(part: str) -> bytes:
    return urlsafe_b64decode(part + "==")
