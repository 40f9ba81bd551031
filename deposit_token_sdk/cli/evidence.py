"""``deposit-token evidence``: seal, export and erase what a shop keeps, and verify it anywhere, without the shop.

`verify` needs neither settings nor a database: what it is given on the command line is all it believes. Its exit code
is 0 where nothing contradicts the evidence, 1 where something does, 2 where it cannot be read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

from deposit_token_sdk.cli.loading import checkout_of, checkout_option
from deposit_token_sdk.errors import DepositTokenError, NotGenuine, NotOurs, Unreadable

if TYPE_CHECKING:
    from deposit_token_sdk.checkout.proving import Authenticated, Finding, Outside, Report
    from deposit_token_sdk.checkout.seal import Seal
    from deposit_token_sdk.models import Evidence

F = TypeVar("F", bound=Callable[..., Any])

_SHOWN: Final = 20
"""How many rows of one kind are named on a terminal; ``--json`` names all."""

_NOT_PROVEN, _UNREADABLE = 1, 2


@click.group("evidence")
def command() -> None:
    """Seal, export, verify and erase the evidence of payments."""


def _told(run: F) -> F:
    """What the shop or its database refuses is said in a sentence."""

    @wraps(run)
    def told(*args: Any, **kwargs: Any) -> Any:
        try:
            return run(*args, **kwargs)
        except DepositTokenError as error:
            raise click.ClickException(str(error)) from None

    return told  # type: ignore[return-value]  # the same signature, by wraps


@command.command()
@checkout_option
@_told
def seal(spec: str | None) -> None:
    """Seal all that is not sealed yet. Workers do this by themselves."""
    with checkout_of(spec).open() as checkout:
        rows = 0
        while made := checkout.seal():
            rows += made.size
        last = checkout.store.seals.last()
        click.echo(f"Rows sealed: {rows}. {_where_it_ends(last)}")


@command.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@checkout_option
@_told
def export(folder: Path, spec: str | None) -> None:
    """Write confirmations, sealed rows and seals into DIR, which must be new or empty.

    The raw bodies of events are in it: keep it as you keep personal data. Keep its head.json elsewhere too.
    """
    from deposit_token_sdk.checkout import archive  # noqa: PLC0415 - what --help does not need is not loaded

    with checkout_of(spec).open() as checkout, checkout.store.seals.snapshot() as snapshot:
        counts = archive.write(folder, snapshot)
    last = counts.pop("seals")
    click.echo(f"Exported to {folder}: {', '.join(f'{count} {name}' for name, count in counts.items())}, {last} seals.")
    if last:
        click.echo(f"Keep {folder / archive.HEAD} where nobody who can write to the shop's database can write.")


@command.command()
@click.argument("file", metavar="[FILE]", type=click.File("wb", lazy=True), default="-")
@checkout_option
@_told
def head(file: Any, spec: str | None) -> None:
    """Write the signed head of the seals to FILE, or print it: a few lines to keep elsewhere.

    Whoever has it later can tell whether anything that was sealed by now has been removed or altered.
    """
    from deposit_token_sdk.checkout import archive  # noqa: PLC0415 - loaded when it is used

    with checkout_of(spec).open() as checkout:
        last = checkout.store.seals.last()
    if last is None:
        raise click.ClickException("Nothing is sealed yet: run `deposit-token evidence seal` first.")
    file.write(archive.head_file(last))


@command.command()
@click.option("--older-than", "days", metavar="DAYS", type=click.IntRange(0), required=True, help="Age in days.")
@checkout_option
@_told
def erase(days: int, spec: str | None) -> None:
    """Erase raw bodies of events, and other personal data, older than DAYS. The proof stays whole.

    What is not sealed yet is sealed first. docs/evidence.md lists what is erased and what is not.
    """
    with checkout_of(spec).open() as checkout:
        rows = checkout.erase(datetime.now(UTC) - timedelta(days=days))
    click.echo(f"Rows older than {days} days that personal data was erased from: {rows}.")


def _where_it_ends(last: Seal | None) -> str:
    if last is None:
        return "There are no seals."
    return f"The last seal is {last.number}{'' if last.statement else ', not signed: the checkout has no signing key'}."


# -- verify ------------------------------------------------------------------------------------------------------


@command.command()
@click.argument("path", metavar="FILE|DIR", type=click.Path(path_type=Path))
@click.option("--pin", "pins", metavar="THUMBPRINT", multiple=True, help="RFC 7638 thumbprint of a key of the bank's.")
@click.option("--seal-pin", "seal_pins", metavar="THUMBPRINT", multiple=True, help="The same of the merchant's key.")
@click.option("--head", "head_file", metavar="FILE", type=click.Path(path_type=Path), help="A head kept elsewhere.")
@click.option("--keys", metavar="FILE", type=click.Path(path_type=Path), help="JWK set beside a FILE that is a JWS.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, which names everything.")
def verify(
    path: Path,
    pins: tuple[str, ...],
    seal_pins: tuple[str, ...],
    head_file: Path | None,
    keys: Path | None,
    as_json: bool,
) -> None:
    """Verify a confirmation (FILE) or an export (DIR), offline.

    FILE is a statement of the bank's, as shops hand it to buyers (NAME.jws, with the bank's key in NAME-keys.json or
    named by --keys), or a line of an export's evidence.jsonl. Nothing is believed but what is given here: without
    --pin whose key signed is not known, without --head what was cut off is not seen, and that is said.

    Exit code: 0 nothing contradicts it, 1 something does, 2 it cannot be read.
    """
    from deposit_token_sdk.checkout import archive, proving  # noqa: PLC0415 - loaded when it is used

    with _readable(as_json):
        outer = None if head_file is None else archive.read_head_file(head_file)
        if outer is not None and outer.statement is not None:
            proving.check_seal(outer)
        outside = proving.Outside(frozenset(pins), frozenset(seal_pins), outer)
        if path.is_dir():
            report = proving.prove(archive.Archive.open(path), outside)
            if head_file is not None and head_file.resolve().parent == path.resolve():
                report.open.append(
                    "The head given lies in the export itself: it shows nothing that the export does not."
                )
            _tell_export(path, report, outside, as_json=as_json)
        else:
            _verify_file(path, keys, outside, as_json=as_json)


@contextmanager
def _readable(as_json: bool) -> Iterator[None]:
    try:
        yield
    except (NotGenuine, NotOurs) as error:
        _fail(f"Not proven: {error}", error.reason, _NOT_PROVEN, as_json=as_json)
    except DepositTokenError as error:
        _fail(f"Cannot be read: {error}", error.reason, _UNREADABLE, as_json=as_json)
    except OSError as error:
        _fail(f"Cannot be read: {error.filename}: {error.strerror}.", "no_file", _UNREADABLE, as_json=as_json)


def _fail(message: str, reason: str, code: int, *, as_json: bool) -> NoReturn:
    verdict = "not proven" if code == _NOT_PROVEN else "unreadable"
    if as_json:
        _print_json({"verdict": verdict, "reason": reason, "detail": message})
    click.echo(message, err=True)
    click.get_current_context().exit(code)
    raise AssertionError  # `exit` raises


def _print_json(value: dict[str, Any]) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


# -- one confirmation --------------------------------------------------------------------------------------------


def _verify_file(path: Path, keys: Path | None, outside: Outside, *, as_json: bool) -> None:
    from deposit_token_sdk.checkout import proving  # noqa: PLC0415 - loaded when it is used

    known = proving.authenticate(_evidence_in(path, keys))
    pinned = known.thumbprint in outside.pins
    if outside.pins and not pinned:
        raise NotGenuine("other_key", f"It is signed by the key {known.thumbprint}, which is none of those pinned.")
    if as_json:
        _print_json({"verdict": _verdict(pinned), **_as_json(known)})
    else:
        for line in _confirmation_lines(known, pinned=pinned):
            click.echo(line)


def _evidence_in(path: Path, keys: Path | None) -> Evidence:
    """The confirmation in a file, in either of the forms that it may have."""
    from deposit_token_sdk.checkout import proving  # noqa: PLC0415 - loaded when it is used
    from deposit_token_sdk.signing import strict_json  # noqa: PLC0415 - loaded when it is used

    data = path.read_bytes().strip()
    if not data.startswith(b"{"):
        beside = keys or path.with_name(f"{path.stem}-keys.json")
        if not beside.is_file():
            raise Unreadable(
                "no_keys", f"{path} is a statement without a key: give the bank's JWK set by --keys, or as {beside}."
            )
        return proving.of_statement(
            data.decode("ascii", "replace"), beside.read_text(encoding="utf-8", errors="replace")
        )
    members = strict_json.parse(data)
    columns = strict_json.member(members, "row") if "row" in members else members
    if isinstance(columns.get("keys"), dict):
        columns["keys"] = strict_json.dumps(columns["keys"]).decode()
    return proving.of_columns({name: value for name, value in columns.items() if value is None or type(value) is str})


def _verdict(pinned: bool) -> str:
    return "proven" if pinned else "consistent in itself only"


def _confirmation_lines(known: Authenticated, *, pinned: bool) -> Iterator[str]:
    from deposit_token_sdk.checkout import proving  # noqa: PLC0415 - loaded when it is used

    said = known.confirmation
    what = {
        "settlement": f"{said.units} units of {said.token} reached the merchant {said.merchant!r}.",
        "return": f"{said.units} units of {said.token} were taken back from the merchant {said.merchant!r}.",
        "refund": f"{said.units} units of {said.token} were sent back by the merchant {said.merchant!r}.",
    }
    yield f"{said.issuer!r} confirms a {said.kind}: {what[said.kind]}"
    yield f"  movement   {said.movement}"
    yield f"  invoice    {said.invoice}, which the shop calls {said.reference}"
    yield f"  accepted   {_time(said.accepted_at)}; stated {_time(said.issued_at)}; mode {said.mode}"
    yield f"  signed by  key {known.kid!r}, thumbprint {known.thumbprint}"
    yield f"  proof      {said.proof}: {proving.WORTH[said.proof]}"
    if pinned:
        yield "Proven: the key is one that you pinned."
    else:
        yield (
            "Consistent in itself only: the signature holds, but whose key that is, is for you to compare with what "
            "the bank publishes. Then give it: --pin THUMBPRINT."
        )


def _as_json(known: Authenticated) -> dict[str, Any]:
    said = known.confirmation
    names = "kind issuer merchant installation mode invoice reference token movement units accepted_at issued_at of"
    told = {name: getattr(said, name) for name in [*names.split(), "quote_digest", "refund_reference"]}
    texts = {name: None if value is None else _json_text(value) for name, value in told.items()}
    return {**texts, "proof": said.proof.value, "kid": known.kid, "thumbprint": known.thumbprint}


def _json_text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


# -- an export ---------------------------------------------------------------------------------------------------


def _tell_export(folder: Path, report: Report, outside: Outside, *, as_json: bool) -> None:
    if as_json:
        _print_json(_report_as_json(report))
    else:
        click.echo(f"Evidence of installation {report.installation}, in {folder}")
        for line in (*_summary(report, outside), *_named(report)):
            click.echo(line)
    if report.findings:
        click.get_current_context().exit(_NOT_PROVEN)


def _summary(report: Report, outside: Outside) -> Iterator[str]:
    bad = {finding.key for finding in report.findings if finding.what in ("not_genuine", "unverifiable")}
    yield f"  confirmations  {report.confirmations}, of which {report.confirmations - len(bad)} are genuine"
    for thumbprint, count in report.keys.items():
        pinned = "pinned" if thumbprint in outside.pins else "not pinned"
        yield f"                 {count} signed by the key {thumbprint} ({pinned})"
    last = "" if report.last is None else f", the last of {_time(report.last.at)}"
    yield f"  seals          {report.seals}{last}"
    for thumbprint, count in report.seal_keys.items():
        pinned = "pinned" if thumbprint in outside.seal_pins else "not pinned"
        yield f"                 {count} signed by the key {thumbprint} ({pinned})"
    if report.unsigned:
        yield f"                 {report.unsigned} not signed"
    for name in sorted({*report.sealed, *report.unsealed}):
        waiting = report.unsealed.get(name, 0)
        yield f"  {name:<13}  {report.sealed.get(name, 0)} sealed" + (f", {waiting} not yet" if waiting else "")


def _named(report: Report) -> Iterator[str]:
    shown: dict[str, int] = {}
    for finding in report.findings:
        shown[finding.what] = shown.get(finding.what, 0) + 1
        if shown[finding.what] <= _SHOWN or finding.what != "in_doubt":
            yield f"{finding.what.upper().replace('_', ' ')}: {_name(finding)}: {finding.detail}"
    if shown.get("in_doubt", 0) > _SHOWN:
        yield f"… and {shown['in_doubt'] - _SHOWN} more in doubt; --json names them."
    for leaf in report.erased[:_SHOWN]:
        when = "" if leaf.erased_at is None else f" on {leaf.erased_at[:10]}"
        yield f"erased{when}: the body of {leaf.source} {leaf.key} (seal {leaf.seal}); the rest of the row is proven"
    if len(report.erased) > _SHOWN:
        yield f"… and {len(report.erased) - _SHOWN} more bodies erased; --json names them."
    for point in report.open:
        yield f"Open: {point}"
    count = len(report.findings)
    worth = str(report.worth)
    yield worth.capitalize() + (f": {count} {'finding' if count == 1 else 'findings'}." if count else ".")


def _name(finding: Finding) -> str:
    if finding.source == "seals":
        return f"seal {finding.key}"
    under = "" if finding.seal is None else f" (seal {finding.seal})"
    return f"{finding.source} {finding.key}{under}"


def _report_as_json(report: Report) -> dict[str, Any]:
    from attrs import asdict  # noqa: PLC0415 - loaded when it is used

    return {
        "verdict": report.worth.value,
        "installation": report.installation,
        "confirmations": {"count": report.confirmations, "by_key": report.keys},
        "seals": {"count": report.seals, "by_key": report.seal_keys, "unsigned": report.unsigned},
        "sealed": report.sealed,
        "unsealed": report.unsealed,
        "erased": [
            {
                "source": leaf.source,
                "key": leaf.key,
                "seal": leaf.seal,
                "at": leaf.erased_at,
            }
            for leaf in report.erased
        ],
        "findings": [asdict(finding) for finding in report.findings],
        "open": report.open,
    }
