"""`make demo-scale`: the same purchase in a shop that has outgrown one process. Only settings differ.

PostgreSQL and Redis are started in a folder of their own, the shop runs under gunicorn with two workers, and Celery
(a beat and a worker of two processes) sends the outbox, asks the bank and seals. Beyond the purchase it shows what
these three have done. ONCE, KEEP, BANK_PORT and SHOP_PORT are as for `make demo`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from deposit_token_sdk import SqlStore
from deposit_token_sdk.testing.servers import postgres, redis
from examples.demo.browser import Browser
from examples.demo.processes import Process, StepFailed
from examples.demo.purchase import books, buy, control, order, required, step
from examples.demo.stage import Stage, is_set, run, start_bank
from examples.demo.timeline import Timeline, say

WEB_WORKERS = CELERY_PROCESSES = 2
PACE = {"SHOP_OUTBOX_EVERY": "1", "SHOP_SWEEP_EVERY": "1", "SHOP_SEAL_EVERY": "1", "SHOP_SWEEP_OLDER_THAN": "2"}
"""Seconds; a real shop leaves them as they are."""

GUNICORN = f"""\
workers = {WEB_WORKERS}
threads = 4
accesslog = None
control_socket_disable = True
"""


def play(stage: Stage) -> None:
    """Start all of it, buy once, and show that the outbox, the sweep and the seal have run."""
    database = stage.servers.enter_context(postgres())
    stage.watch.answers("PostgreSQL", database)
    say(f"  PostgreSQL at {database.rpartition('@')[2]}")
    broker = stage.servers.enter_context(redis())
    stage.watch.answers("Redis", broker)
    say(f"  Redis at {broker}")
    bank, shop, environ = start_bank(stage)
    environ |= {"SHOP_DATABASE": database, "SHOP_BROKER": broker, **PACE}
    start_web(stage, shop, environ)
    worker = start_celery(stage, environ)
    say()
    timeline = Timeline()
    with books(database) as store:
        order_id = buy(stage.watch, timeline, bank, shop, store, environ)
        tell_receipt(stage, timeline, worker, Path(environ["SHOP_RECEIPTS"]) / f"receipt-{order_id}.txt", store)
        tell_sweep(stage, timeline, worker, bank, shop, store)
        tell_seal(stage, timeline, worker, store)
    if not is_set("ONCE"):
        say()
        say(f"The shop is at {shop} (admin: {shop}/admin, password {environ['SHOP_ADMIN_PASSWORD']}),")
        say(f"the bank at {bank}. All of it runs until Ctrl-C; receipts are written to {environ['SHOP_RECEIPTS']}.")


def start_web(stage: Stage, shop: str, environ: dict[str, str]) -> None:
    """The shop under gunicorn."""
    settings = stage.data / "gunicorn.conf.py"
    settings.write_text(GUNICORN, encoding="utf-8")
    command = [sys.executable, "-m", "gunicorn", "--config", str(settings), "--bind", shop.removeprefix("http://")]
    stage.watch.start("shop", [*command, "examples.flask_shop:create_app()"], stage.data / "shop.log", environ)
    say(f"  shop at {shop}, by {WEB_WORKERS} gunicorn workers")


def start_celery(stage: Stage, environ: dict[str, str]) -> Process:
    """Celery's worker and its beat; returns the worker once both are ready."""
    celery = [sys.executable, "-m", "celery", "-A", "examples.flask_shop.background"]
    alone = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    working = [*celery, "worker", "--concurrency", str(CELERY_PROCESSES), "--loglevel", "INFO", *alone]
    beating = [*celery, "beat", "--loglevel", "INFO", "--schedule", str(stage.data / "beat"), "--pidfile="]
    worker = stage.watch.launch("Celery worker", working, stage.data / "celery.log", environ)
    beat = stage.watch.launch("Celery beat", beating, stage.data / "beat.log", environ)
    stage.watch.until_ready(worker, re.compile(r"celery@\S+ ready\."))
    stage.watch.until_ready(beat, re.compile("beat: Starting"))
    say(f"  Celery with {CELERY_PROCESSES} processes, and its beat")
    return worker


def tell_receipt(stage: Stage, timeline: Timeline, worker: Process, receipt: Path, store: SqlStore) -> None:
    """That the outbox has sent the receipt."""
    with step("receipt"):
        stage.watch.until(receipt.exists, "the outbox wrote no receipt")
        stage.watch.until(lambda: store.outgoing_depth()[0] == 0, "the outbox is not empty")
        by = ran(stage, worker, "outbox")
        timeline.tell("receipt", f"{receipt.name} written after the commit, from the outbox, by {by}")


def tell_sweep(stage: Stage, timeline: Timeline, worker: Process, bank: str, shop: str, store: SqlStore) -> None:
    """That the sweep finds a payment of which the shop never heard."""
    with step("sweep"):
        order_id, _ = order(Browser(), shop, bank)
        attempt = required(next(iter(store.order(order_id).attempts), None), "the shop has no attempt to pay")
        control(bank, "drop_webhooks", invoice=attempt.invoice, count=None)
        control(bank, "pay", invoice=attempt.invoice)
        stage.watch.until(lambda: store.order(order_id).paid_by, "the sweep did not find the payment")
        if taken_by_webhook(bank, attempt.invoice):
            raise StepFailed("a webhook came that was to be lost")
        by = ran(stage, worker, "sweep")
        timeline.tell("sweep", f"every webhook about {order_id} lost on the way: found by asking the bank, by {by}")


def taken_by_webhook(bank: str, invoice: str | None) -> bool:
    """Whether the shop was told of the settled payment by a webhook."""
    messages = control(bank, "webhooks", invoice=invoice)
    return any(one["type"] == "invoice.settled" and any(t["status"] for t in one["tries"]) for one in messages)


def tell_seal(stage: Stage, timeline: Timeline, worker: Process, store: SqlStore) -> None:
    """That the evidence is sealed, and the seal signed."""
    with step("seal"):
        stage.watch.until(lambda: store.seals.waiting()[0] == 0, "evidence waits to be sealed")
        last = required(store.seals.last(), "there is no seal")
        if last.statement is None:
            raise StepFailed("the seal is not signed")
        by = ran(stage, worker, "seal")
        timeline.tell("seal", f"all evidence sealed, seal {last.number} signed with the shop's key, by {by}")


def ran(stage: Stage, worker: Process, task: str) -> str:
    """Which process of Celery did it, by the worker's own log."""
    done = re.compile(rf"ForkPoolWorker-[0-9]+\] Task deposit_token\.{task}\[[^]]+\] succeeded")
    said = stage.watch.until(lambda: worker.said(done), f"Celery's log says of no {task} task that it succeeded")
    return f"Celery's {said.partition(']')[0]}"


if __name__ == "__main__":
    sys.exit(run("A bank, and a shop on PostgreSQL, Redis, gunicorn and Celery, all on this machine.", play))
