"""What the shop's computer runs by itself: ``flask --app examples.flask_shop reconcile``, every few minutes."""

from __future__ import annotations

from datetime import timedelta

import click
from flask import Flask
from flask.cli import with_appcontext

from examples.flask_shop.payments import payments


def add_commands(app: Flask) -> None:
    """Make them known to the ``flask`` command."""
    app.cli.add_command(reconcile)


@click.command()
@click.option("--older-than", type=click.IntRange(min=0), default=0, metavar="SECONDS", help="Leave out what is newer.")
@click.pass_context
@with_appcontext
def reconcile(context: click.Context, older_than: int) -> None:
    """Ask the bank about everything open and apply its answers; ends with 1 if something failed."""
    done = payments().checkout.reconcile(timedelta(seconds=older_than))
    click.echo(f"asked {done.asked}, applied {done.applied}, failed {len(done.failed)}")
    for reference, reason in done.failed:
        click.echo(f"{reference}: {reason}", err=True)
    context.exit(1 if done.failed else 0)
