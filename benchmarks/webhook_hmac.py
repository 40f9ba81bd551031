"""A webhook signed with HMAC, from headers and bytes to a typed event, beside stripe's library on the same body."""

from __future__ import annotations

import hmac
from base64 import b64encode
from secrets import token_bytes
from time import time

import stripe

from benchmarks._measure import in_turns, show
from benchmarks._messages import BODY, COUNT, delivered, event, issuer
from deposit_token_sdk.signing.standard_webhooks import WebhookSigner


def main() -> None:
    now = int(time())
    secret = f"whsec_{b64encode(token_bytes(32)).decode()}"
    read = issuer(webhook_keys=[secret]).event
    signer = WebhookSigner(secret)
    bodies = [event(number, now) for number in range(COUNT)]
    messages = [(delivered(signer.sign(f"msg_{number:012}", now, body)), body) for number, body in enumerate(bodies)]
    theirs = [(body, _stripe_header(body, now, secret)) for body in bodies]
    construct = stripe.Webhook.construct_event

    def ours(part: slice) -> None:
        for headers, body in messages[part]:
            read(headers, body, now)

    def peer(part: slice) -> None:
        for body, header in theirs[part]:
            construct(body, header, secret)

    show(
        f"A Standard Webhooks message (v1, a body of {BODY} bytes) to a typed event",
        "HMAC webhook to event",
        "stripe.Webhook.construct_event",
        in_turns(ours, peer, inputs=COUNT, laps=200),
        0.20,
    )


def _stripe_header(body: bytes, now: int, secret: str) -> str:
    signature = hmac.digest(secret.encode(), f"{now}.".encode() + body, "sha256").hex()
    return f"t={now},v1={signature}"


if __name__ == "__main__":
    main()
