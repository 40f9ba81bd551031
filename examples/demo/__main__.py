"""`make demo`: start a bank and a shop, buy something once, and leave both running until a signal comes.

``ONCE=1`` ends after the purchase, ``KEEP=1`` keeps the folder of data, ``BANK_PORT`` and ``SHOP_PORT`` name other
ports than 8001 and 8000; one that is taken is stepped around. The exit code is 0 only if every step worked.
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from examples.demo.processes import Signals, StepFailed, Stopped, Watch, free_port
from examples.demo.purchase import buy
from examples.demo.timeline import say

PORTS = {"BANK_PORT": 8001, "SHOP_PORT": 8000}


def main() -> int:
    """Run the demo; returns its exit code."""
    signals = Signals()
    data = Path(tempfile.mkdtemp(prefix="deposit-token-demo-"))
    watch = Watch(signals)
    bought = False
    try:
        say("A bank, a shop, and one purchase between them, all on this machine.")
        say(f"  data in {data}")
        bank, shop, environ = start(watch, data)
        buy(watch, bank, shop, data / "shop.db", environ)
        bought = True
        if os.environ.get("ONCE", "") not in ("", "0"):
            return 0
        say()
        say(f"The shop is at {shop} (admin: {shop}/admin, password {environ['SHOP_ADMIN_PASSWORD']}),")
        say(f"the bank at {bank}. Both run until Ctrl-C.")
        watch.forever()
    except StepFailed as failure:
        if not signals.number:  # a signal reaches the others too, and what they leave undone is no failure
            sys.stderr.write(f"The demo failed: {failure}\n")
            return 1
    except Stopped:
        pass
    finally:
        clear_away(watch, data)
    say(f"Stopped by {signal.Signals(signals.number).name}; nothing is left running.")
    return 0 if bought else 128 + signals.number


def start(watch: Watch, data: Path) -> tuple[str, str, dict[str, str]]:
    """Start bank and shop; returns their addresses and the shop's environment."""
    environ = os.environ | {name: with_loopback(os.environ.get(name, "")) for name in ("NO_PROXY", "no_proxy")}
    bank_port, shop_port = (free_port(int(os.environ.get(name) or usual)) for name, usual in PORTS.items())
    bank_command = [str(Path(sys.executable).with_name("deposit-token")), "sandbox", "--data", str(data / "bank")]
    webhook_url = f"http://127.0.0.1:{shop_port}/webhooks/sandbox-bank"
    bank = watch.start(
        "bank", [*bank_command, "--port", str(bank_port), "--webhook-url", webhook_url], data / "bank.log", environ
    )
    say(f"  bank at {bank}")
    environ |= settings(watch.output("bank's settings", [*bank_command, "--port", str(bank_port), "--env"], environ))
    environ |= {
        "SHOP_PORT": str(shop_port),
        "SHOP_URL": f"http://127.0.0.1:{shop_port}",
        "SHOP_DATABASE": str(data / "shop.db"),
        "SHOP_SECRET_KEY": secrets.token_urlsafe(32),
        "SHOP_ADMIN_PASSWORD": os.environ.get("SHOP_ADMIN_PASSWORD") or secrets.token_urlsafe(9),
    }
    shop = watch.start("shop", [sys.executable, "-m", "examples.flask_shop"], data / "shop.log", environ)
    say(f"  shop at {shop}")
    return bank, shop, environ


def settings(exports: str) -> dict[str, str]:
    """The variables in lines such as ``export NAME='value'``."""
    words = [shlex.split(line) for line in exports.splitlines() if line.startswith("export ")]
    return dict(word.split("=", 1) for line in words for word in line[1:])


def with_loopback(no_proxy: str) -> str:
    """The hosts that no proxy is for, and ours."""
    return f"{no_proxy},127.0.0.1" if no_proxy else "127.0.0.1"


def clear_away(watch: Watch, data: Path) -> None:
    """End the processes and remove the folder; further signals do not interrupt that."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watch.end()
    if os.environ.get("KEEP", "") in ("", "0"):
        shutil.rmtree(data, ignore_errors=True)
    else:
        say(f"The data is kept in {data}")


if __name__ == "__main__":
    sys.exit(main())
