"""An invoice created over loopback, request signed and answer verified, beside a plain POST and two bare operations.

The peer's POST is the very same, its signature headers written beforehand, and its answer is not even parsed.
"""

from __future__ import annotations

from itertools import cycle
from time import time

import requests
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks._loopback import bank
from benchmarks._measure import in_turns, show
from benchmarks._messages import COUNT, INSTALLATION, digest, issuer
from deposit_token_sdk.client import Client, Clock
from deposit_token_sdk.exchange import Exchange, Request
from deposit_token_sdk.models import Capture, Invoice, NewInvoice


def main() -> None:
    now = time()
    nonces = [f"nonce-of-usual-length-{number:022}" for number in range(COUNT)]
    turn = cycle(nonces)
    wanted = [_wanted(number) for number in range(COUNT)]
    with bank() as url:
        described = issuer(url)
        client = Client(described, clock=Clock(now=lambda: now, nonce=lambda: next(turn)))
        session = requests.Session()
        prepared = [
            _signed(described.create_invoice(one), now, nonce) for one, nonce in zip(wanted, nonces, strict=True)
        ]
        posts = [(request.url, request.body, dict(request.headers)) for request in prepared]
        key = Ed25519PrivateKey.generate()
        sign, verify = key.sign, key.public_key().verify
        base = b"x" * 400
        signature = sign(base)

        def ours(part: slice) -> None:
            for one in wanted[part]:
                client.create_invoice(one)

        def peer(part: slice) -> None:
            for address, body, headers in posts[part]:
                sign(base)
                session.post(address, data=body, headers=headers)
                verify(signature, base)

        pair = in_turns(ours, peer, inputs=COUNT, laps=60)
        client.close()
        session.close()
    show(
        "create_invoice over loopback, request signed and answer verified",
        "create invoice round trip",
        "requests.Session.post, a bare Ed25519 signature and a bare verification",
        pair,
        0.70,
    )


def _wanted(number: int) -> NewInvoice:
    return NewInvoice(
        reference=f"{INSTALLATION}{number:012}",
        installation=INSTALLATION,
        quote_id=f"quo_{number:012}",
        quote_digest=digest(number),
        token="SBUSD",
        due=14100,
        capture=Capture.AUTOMATIC,
        return_url=f"https://shop.example/orders/{number}",
        key=f"7f6c1f0e-0000-4000-8000-{number:012}",
    )


def _signed(exchange: Exchange[Invoice], now: float, nonce: str) -> Request:
    """The request that an exchange begins with, as the client signs it."""
    request = next(exchange)
    assert isinstance(request, Request)
    assert request.sign is not None
    return request.sign(request, now, nonce)


if __name__ == "__main__":
    main()
