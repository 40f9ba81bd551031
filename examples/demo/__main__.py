"""`make demo`: start a bank and a shop, buy something once, and leave both running until a signal comes.

The shop's worker is started when the demo stays: it sends the receipts and seals the evidence.

``ISSUER`` names the API that the bank speaks (reference, antom, jpmorgan, jpmorgan-v1): the shop and its basket stay as
they are, settings alone change. ``ONCE=1`` ends after the purchase, ``KEEP=1`` keeps the folder of data, ``BANK_PORT``
and ``SHOP_PORT`` name other ports than 8001 and 8000; one that is taken is stepped around. ``BUYER_COUNTRY=CN`` has the
buyer live there and not in Germany. The exit code is 0 only if every step worked.
"""

from __future__ import annotations

import sys
from pathlib import Path

from examples.demo.purchase import books, buy
from examples.demo.stage import Stage, is_set, run, start_bank
from examples.demo.timeline import Timeline, say


def play(stage: Stage) -> None:
    """Start bank and shop, buy once, and say where they are."""
    bank, shop, environ = start_bank(stage)
    stage.watch.start("shop", [sys.executable, "-m", "examples.flask_shop"], stage.data / "shop.log", environ)
    say(f"  shop at {shop}")
    say()
    with books(f"sqlite:///{environ['SHOP_DATABASE']}") as store:
        buy(stage.watch, Timeline(), bank, shop, store, environ)
    if not is_set("ONCE"):
        command = [str(Path(sys.executable).with_name("deposit-token")), "worker", "--every", "2"]
        shop_named = ["--checkout", "examples.flask_shop:create_app"]
        stage.watch.launch("worker", [*command, *shop_named], stage.data / "worker.log", environ)
        say()
        say(f"The shop is at {shop} (admin: {shop}/admin, password {environ['SHOP_ADMIN_PASSWORD']}),")
        say(f"the bank at {bank}. Both run until Ctrl-C, and so does the shop's worker, which sends the receipts.")


if __name__ == "__main__":
    sys.exit(run("A bank, a shop, and one purchase between them, all on this machine.", play))
