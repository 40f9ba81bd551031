"""An invoice read over loopback with message signatures off, to a typed value, beside Session.get(...).json()."""

from __future__ import annotations

import requests

from benchmarks._loopback import bank
from benchmarks._measure import in_turns, show
from benchmarks._messages import COUNT, issuer
from deposit_token_sdk.client import Client


def main() -> None:
    ids = [f"inv_{number:012}" for number in range(COUNT)]
    with bank() as url:
        client = Client(issuer(url, signed=False))
        session = requests.Session()
        addresses = [f"{url}/invoices/{one}" for one in ids]

        def ours(part: slice) -> None:
            for one in ids[part]:
                client.invoice(one)

        def peer(part: slice) -> None:
            for address in addresses[part]:
                session.get(address).json()

        pair = in_turns(ours, peer, inputs=COUNT, laps=60)
        client.close()
        session.close()
    show(
        "An invoice read over loopback, message signatures off, to a typed value",
        "unsigned read",
        "requests.Session.get(...).json()",
        pair,
        0.60,
    )


if __name__ == "__main__":
    main()
