"""``deposit-token tokens``: which tokens there are, and with ``--country`` which may be offered there, and why not.

No bank is asked: the directory, the shop's own files and rules, and the policy are all that it needs.
"""

from __future__ import annotations

import json
import os
import textwrap
from typing import TYPE_CHECKING, Any, Final

import click
from attrs import evolve

from deposit_token_sdk.errors import ConfigurationError

if TYPE_CHECKING:
    from deposit_token_sdk.offers.directory import TokenEntry
    from deposit_token_sdk.offers.policy import Ruling

_COLUMNS: Final = ("code", "kind", "currency", "decimals", "rail", "status", "public API", "issuer", "source")
_UNKNOWN: Final = "-"
_INDENT: Final = "   "

Judged = list[tuple["TokenEntry", "Ruling | None"]]


@click.command("tokens")
@click.option("--country", metavar="CODE", help="Where the buyer is (ISO 3166 alpha-2): tell what may be offered.")
@click.option("--merchant-country", metavar="CODE", help="Where the merchant is; by default as the settings say.")
@click.option(
    "--mode",
    type=click.Choice(["test", "live"]),
    envvar="DEPOSIT_TOKEN_MODE",
    show_envvar=True,
    default="live",
    help="Tokens of the sandbox are offered in test mode alone.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(country: str | None, merchant_country: str | None, mode: str, as_json: bool) -> None:
    """List tokens and issuers; with --country, which of them the shop may offer there, and why.

    \b
        deposit-token tokens
        deposit-token tokens --country CN
        deposit-token tokens --country HK --merchant-country SG --json

    The shop's own rules and files count: DEPOSIT_TOKEN_TOKENS_FILE, _EMBARGO_FILE, _TOKEN_KINDS, _BUYER_COUNTRIES and
    _MERCHANT_COUNTRY. A guard rail, and no legal advice.
    """
    if merchant_country is not None and country is None:
        raise click.UsageError("--merchant-country is judged together with the buyer's: add --country CODE.")
    try:
        found = _judged(country, merchant_country, mode)
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps({"tokens": [_as_json(*one) for one in found]}, ensure_ascii=False, indent=2))
    elif country is None:
        _tell_all([entry for entry, _ in found])
    else:
        _tell_rulings(found)


def _judged(country: str | None, merchant_country: str | None, mode: str) -> Judged:
    from deposit_token_sdk.offers import directory, policy  # noqa: PLC0415 - what --help does not need is not loaded
    from deposit_token_sdk.settings import OfferRules  # noqa: PLC0415 - as above

    rules = OfferRules.from_env(os.environ)
    entries = directory.directory(rules.tokens_file).values()
    if country is None:
        return [(entry, None) for entry in entries]
    if merchant_country is not None:
        rules = evolve(rules, merchant_country=merchant_country)
    embargo = directory.embargo(rules.embargo_file)
    return [(entry, policy.decide(entry, country, rules, embargo, mode)) for entry in entries]


def _tell_all(entries: list[TokenEntry]) -> None:
    rows = [_COLUMNS, *(_row(entry) for entry in entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    for row in rows:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _row(entry: TokenEntry) -> tuple[str, ...]:
    decimals = _UNKNOWN if entry.decimals is None else str(entry.decimals)
    words = (_kind(entry), entry.currency, decimals, entry.rail, entry.status)
    api = "yes" if entry.public_api else "no"
    told = f"{entry.source}, {entry.date}"
    return (entry.code, *(word or _UNKNOWN for word in words), api, entry.issuer, told)


def _tell_rulings(found: Judged) -> None:
    width = max(len(entry.code) for entry, _ in found)
    for entry, ruling in found:
        if ruling is None:
            continue
        word = click.style("allowed", fg="green") if ruling.allowed else click.style("refused", fg="red")
        reason = "" if ruling.allowed else f"  {ruling.reason}"
        click.echo(f"{entry.code:<{width}}  {word}{reason}")
        note = f" {entry.note}" if entry.note and entry.note not in ruling.text else ""
        for line in (f"{ruling.text}{note}", f"[{ruling.basis}]"):
            click.echo(textwrap.indent(textwrap.fill(line, 100), _INDENT))
    allowed = sum(ruling is not None and ruling.allowed for _, ruling in found)
    click.echo(f"\n{allowed} allowed, {len(found) - allowed} refused. A guard rail, and no legal advice.")


def _kind(entry: TokenEntry) -> str | None:
    from deposit_token_sdk.settings import KINDS  # noqa: PLC0415 - what --help does not need is not loaded

    return next((name for name, kind in KINDS.items() if kind is entry.kind), None)


def _as_json(entry: TokenEntry, ruling: Ruling | None) -> dict[str, Any]:
    told = {
        "code": entry.code,
        "name": entry.name,
        "issuer": entry.issuer,
        "kind": _kind(entry),
        "currency": entry.currency,
        "decimals": entry.decimals,
        "rail": entry.rail,
        "asset": entry.asset,
        "status": entry.status,
        "public_api": entry.public_api,
        "licensed": sorted(entry.licensed),
        "test": entry.test,
        "default": entry.default,
        "note": entry.note,
        "source": entry.source,
        "date": entry.date,
    }
    if ruling is None:
        return told
    decided = {"allowed": ruling.allowed, "reason": ruling.reason, "text": ruling.text, "ground": ruling.ground}
    return told | {"offer": decided | {"source": ruling.source, "date": ruling.date}}
