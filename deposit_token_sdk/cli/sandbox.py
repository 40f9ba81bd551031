"""``deposit-token sandbox``: the embedded bank in a process of its own, until it is told to stop."""

from __future__ import annotations

import errno
import shlex
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from deposit_token_sdk.errors import DepositTokenError

if TYPE_CHECKING:
    from deposit_token_sdk.sandbox import Sandbox


@click.command("sandbox")
@click.option("--port", type=click.IntRange(0, 65535), default=8790, show_default=True, help="0 takes a free port.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".deposit-token-sandbox"),
    show_default=True,
    help="Folder of the bank's database and of the merchants' keys.",
)
@click.option("--database", metavar="URL", help="Any SQLAlchemy URL, in place of SQLite in the data folder.")
@click.option("--webhook-url", metavar="URL", help="Where the demo merchant's webhooks go.")
@click.option("--durable", is_flag=True, help="SQLite: write each commit through to the disk (synchronous=FULL).")
@click.option("--tls-port", type=click.IntRange(0, 65535), help="Listen with TLS too; 0 takes a free port.")
@click.option(
    "--dialect", default="reference", show_default=True, help="With --env: that bank's API (antom, jpmorgan, …)."
)
@click.option("--env", is_flag=True, help="Print the settings a shop needs as export lines, and stop.")
@click.option("--quiet", is_flag=True, help="Print the address and nothing else.")
def command(
    port: int,
    data: Path,
    database: str | None,
    webhook_url: str | None,
    durable: bool,
    tls_port: int | None,
    dialect: str,
    env: bool,
    quiet: bool,
) -> None:
    """Run a practice bank on this machine: no money moves.

    It prints its address and runs until SIGTERM or Ctrl-C. Its settings for a shop are printed by --env, given the
    same --port and --data.
    """
    if env and port == 0:
        raise click.UsageError("--env needs the port the bank runs on: name it by --port.")
    if env and tls_port == 0:
        raise click.UsageError("--env needs the port with TLS the bank runs on: name it by --tls-port.")
    try:
        from deposit_token_sdk.sandbox import Sandbox  # noqa: PLC0415 - an extra, and slow to load

        if webhook_url is not None:
            _check_address(webhook_url)
        bank = Sandbox(data, database, port=port, durable=durable, tls_port=tls_port)
        if env:
            _print_settings(bank.environment(webhook_url, dialect))
        else:
            _serve(bank, data, webhook_url, quiet=quiet)
    except DepositTokenError as error:
        raise click.ClickException(str(error)) from None
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"{error.name} is missing: pip install 'deposit-token-sdk[sandbox]', and the driver that --database names."
        ) from None


def _check_address(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise click.BadParameter(f"{url!r} is no http address.", param_hint="--webhook-url")


def _print_settings(settings: dict[str, str]) -> None:
    for name, value in settings.items():
        click.echo(f"export {name}={_quoted(value)}")


def _quoted(value: str) -> str:
    quoted = shlex.quote(value)
    return quoted if quoted.startswith("'") else f"'{value}'"


class _Stopped(BaseException):
    """A signal came: raised where the main thread waits, so that nothing it holds is held on to."""


def _stop(*_: object) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    raise _Stopped


def _serve(bank: Sandbox, data: Path, webhook_url: str | None, *, quiet: bool) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        _start(bank)
        if webhook_url is not None:
            bank.control.set_webhook_url(webhook_url)
        print(bank.url, flush=True)
        if not quiet:
            port = bank.url.rsplit(":", 1)[1]
            if bank.has_tls:
                print(f"With TLS at {bank.tls_url}, by the authority in {bank.ca_file}", flush=True)
            print(f"Data in {data.resolve()}. Settings for a shop:", flush=True)
            print(f"  deposit-token sandbox --env --port {port} --data {shlex.quote(str(data))}", flush=True)
        threading.Event().wait()
    except _Stopped:
        pass
    finally:
        bank.stop()


def _start(bank: Sandbox) -> None:
    try:
        bank.start()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise click.ClickException("That port is taken: name another by --port, or 0 for a free one.") from None
