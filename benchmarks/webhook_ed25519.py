"""A webhook signed with Ed25519, from headers and bytes to a typed event, beside the bare verification."""

from __future__ import annotations

from base64 import b64decode
from time import time

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from benchmarks._measure import in_turns, show
from benchmarks._messages import BODY, COUNT, delivered, event, issuer
from deposit_token_sdk.signing.standard_webhooks import WebhookSigner


def main() -> None:
    now = int(time())
    signer, _ = WebhookSigner.generate()
    read = issuer(webhook_keys=[signer.public_text]).event
    verify = Ed25519PublicKey.from_public_bytes(b64decode(signer.public_text.removeprefix("whpk_"))).verify
    bodies = [event(number, now) for number in range(COUNT)]
    signed = [(signer.sign(f"msg_{number:012}", now, body), body) for number, body in enumerate(bodies)]
    messages = [(delivered(headers), body) for headers, body in signed]
    contents = [
        (
            b64decode(headers["webhook-signature"].removeprefix("v1a,")),
            f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body,
        )
        for headers, body in signed
    ]

    def ours(part: slice) -> None:
        for headers, body in messages[part]:
            read(headers, body, now)

    def peer(part: slice) -> None:
        for signature, content in contents[part]:
            verify(signature, content)

    show(
        f"A Standard Webhooks message (v1a, a body of {BODY} bytes) to a typed event",
        "Ed25519 webhook to event",
        "bare Ed25519 verification",
        in_turns(ours, peer, inputs=COUNT, laps=100),
        1.30,
    )


if __name__ == "__main__":
    main()
