"""``deposit-token outbox``: what waits to go out, what could not be sent, and the word to send it again.

It sends nothing itself: the worker does, at its next round.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from deposit_token_sdk.cli.loading import checkout_of, checkout_option, working

if TYPE_CHECKING:
    from deposit_token_sdk.checkout.store import Outgoing

MOST_LISTED = 1_000
"""Dead letters that are listed, or sent again by ``--all``, at most."""


@click.group("outbox", invoke_without_command=True)
@checkout_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, payloads included.")
@click.option("--check", is_flag=True, help="End with 1 if there are dead letters.")
@click.pass_context
def command(context: click.Context, spec: str | None, as_json: bool, check: bool) -> None:
    """Show what waits to go out, and the dead letters: what failed so often that a person must look.

    Each dead letter is shown with its key and with what its last try said. Mend that, then have it sent again:

    \b
        deposit-token outbox send-again KEY
    """
    context.obj = spec
    if context.invoked_subcommand is not None:
        return
    with working(checkout_of(spec)) as checkout:
        waiting, oldest, dead_count = checkout.store.outgoing_depth()
        dead = checkout.outbox.dead(MOST_LISTED)
    if as_json:
        oldest_text = None if oldest is None else _stamp(oldest)
        told = {"waiting": waiting, "oldest_due_at": oldest_text, "dead": [_as_json(one) for one in dead]}
        click.echo(json.dumps(told, ensure_ascii=False, indent=2))
    else:
        _tell(waiting, oldest, dead_count, dead)
    context.exit(1 if check and dead else 0)


@command.command("send-again")
@checkout_option
@click.argument("keys", nargs=-1, metavar="KEY...")
@click.option("--all", "every", is_flag=True, help="All dead letters.")
@click.pass_context
def send_again(context: click.Context, spec: str | None, keys: tuple[str, ...], every: bool) -> None:
    """Have dead letters sent again.

    At the worker's next round, and as if for the first time. Ends with 1 if a key is that of no dead letter.
    """
    if every == bool(keys):
        raise click.UsageError("Name the KEY of a dead letter, or several, or --all.")
    unknown = 0
    with working(checkout_of(spec or context.obj)) as checkout:
        for key in [one.key for one in checkout.outbox.dead(MOST_LISTED)] if every else keys:
            if checkout.outbox.send_again(key):
                click.echo(f"{key} will be sent again.")
            else:
                unknown += 1
                click.echo(f"{key} is no dead letter: `deposit-token outbox` lists them.", err=True)
    context.exit(1 if unknown else 0)


def _tell(waiting: int, oldest: datetime | None, dead_count: int, dead: tuple[Outgoing, ...]) -> None:
    due = "" if oldest is None else f", the first of them due at {_stamp(oldest)}"
    click.echo(f"{waiting} waiting{due}; {dead_count} dead")
    for one in dead:
        when = "" if one.dead_at is None else f" on {_stamp(one.dead_at)}"
        order = f" of order {one.order_id}" if one.order_id else ""
        click.echo(f"\n{one.key}\n  {one.topic}{order}, given up after {one.tries} tries{when}\n  {one.error or ''}")
    if dead:
        click.echo("\nTo send one again: deposit-token outbox send-again KEY (all of them: --all)")
    if dead_count > len(dead):
        click.echo(f"These are the oldest {len(dead)}.")


def _as_json(one: Outgoing) -> dict[str, Any]:
    return {
        "key": one.key,
        "topic": one.topic,
        "order_id": one.order_id,
        "payload": json.loads(one.payload),
        "made_at": _stamp(one.made_at),
        "dead_at": None if one.dead_at is None else _stamp(one.dead_at),
        "tries": one.tries,
        "error": one.error,
    }


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
