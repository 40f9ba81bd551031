"""What the demonstrations have in common: a folder, the bank, the shop's settings, and an end that leaves nothing."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from attrs import frozen

from deposit_token_sdk import DepositTokenError
from deposit_token_sdk.sandbox import Sandbox
from examples.demo.processes import Signals, StepFailed, Stopped, Watch, free_port
from examples.demo.timeline import say

PORTS = {"BANK_PORT": 8001, "SHOP_PORT": 8000}


@frozen
class Stage:
    """Where a demonstration runs. `servers` are ended after the processes that `watch` has started."""

    watch: Watch
    data: Path
    servers: ExitStack


def run(title: str, play: Callable[[Stage], None]) -> int:
    """Run a demonstration, stay until a signal comes unless ONCE is set, and clear away. Returns the exit code.

    `play` starts what it needs, buys, and says where everything is; it raises StepFailed where a step did not work.
    """
    signals = Signals()
    stage = Stage(Watch(signals), Path(tempfile.mkdtemp(prefix="deposit-token-demo-")), ExitStack())
    bought = False
    try:
        say(title)
        say(f"  data in {stage.data}")
        play(stage)
        bought = True
        if is_set("ONCE"):
            return 0
        stage.watch.forever()
    except (StepFailed, DepositTokenError) as failure:
        if not signals.number:  # a signal reaches the others too, and what they leave undone is no failure
            sys.stderr.write(f"The demo failed: {failure}\n")
            return 1
    except Stopped:
        pass
    finally:
        _clear_away(stage)
    say(f"Stopped by {signal.Signals(signals.number).name}; nothing is left running.")
    return 0 if bought else 128 + signals.number


def is_set(name: str) -> bool:
    """Whether a variable such as ONCE asks for something."""
    return os.environ.get(name, "") not in ("", "0")


def start_bank(stage: Stage) -> tuple[str, str, dict[str, str]]:
    """Start the bank; returns its address, the address the shop is to have, and the shop's environment."""
    environ = os.environ | {name: _with_loopback(os.environ.get(name, "")) for name in ("NO_PROXY", "no_proxy")}
    bank_port, shop_port = (free_port(int(os.environ.get(name) or usual)) for name, usual in PORTS.items())
    shop = f"http://127.0.0.1:{shop_port}"
    command = [str(Path(sys.executable).with_name("deposit-token")), "sandbox", "--data", str(stage.data / "bank")]
    command += ["--port", str(bank_port)]
    command += ["--webhook-url", f"{shop}/webhooks/sandbox-bank"]
    starting = stage.watch.launch("bank", command, stage.data / "bank.log", environ)
    # Meanwhile, what `deposit-token sandbox --env` prints: the settings by which a shop finds this bank.
    settings = Sandbox(stage.data / "bank", port=bank_port).environment(dialect=os.environ.get("ISSUER") or "reference")
    bank = stage.watch.until_ready(starting)
    say(f"  bank at {bank}")
    environ |= settings
    return bank, shop, environ | shop_settings(stage.data, shop)


def shop_settings(data: Path, shop: str) -> dict[str, str]:
    """What the shop is told beside the bank's settings; the database may be replaced."""
    return {
        "SHOP_PORT": shop.rpartition(":")[2],
        "SHOP_URL": shop,
        "SHOP_DATABASE": str(data / "shop.db"),
        "SHOP_RECEIPTS": str(data / "receipts"),
        "SHOP_SECRET_KEY": secrets.token_urlsafe(32),
        "DEPOSIT_TOKEN_MERCHANT_COUNTRY": os.environ.get("DEPOSIT_TOKEN_MERCHANT_COUNTRY") or "DE",
        "SHOP_ADMIN_PASSWORD": os.environ.get("SHOP_ADMIN_PASSWORD") or secrets.token_urlsafe(9),
    }


def _with_loopback(no_proxy: str) -> str:
    """The hosts that no proxy is for, and ours."""
    return f"{no_proxy},127.0.0.1" if no_proxy else "127.0.0.1"


def _clear_away(stage: Stage) -> None:
    """End the processes, then the servers, and remove the folder; further signals do not interrupt that."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        stage.watch.end()
    finally:
        try:
            stage.servers.close()
        finally:
            if is_set("KEEP"):
                say(f"The data is kept in {stage.data}")
            else:
                shutil.rmtree(stage.data, ignore_errors=True)
