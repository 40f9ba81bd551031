"""Where a command finds the shop: ``--checkout MODULE:NAME``, or the variable DEPOSIT_TOKEN_CHECKOUT.

The name is that of a `Checkout`, of a Flask app that has the webhooks blueprint, or of a callable without arguments
that returns either. Whatever is wrong with it is a usage error (exit code 2) that says what was expected; only the
shop's own mistakes are shown with their traceback. Nothing here talks to a bank or to a database.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click
from attrs import frozen

from deposit_token_sdk.errors import DepositTokenError

if TYPE_CHECKING:
    from deposit_token_sdk.checkout.flow import Checkout

VARIABLE: Final = "DEPOSIT_TOKEN_CHECKOUT"
"""The environment variable that names the shop's checkout where ``--checkout`` does not."""

EXTENSION: Final = "deposit_token"
"""Where a Flask app keeps its checkout: ``app.extensions[EXTENSION]``, set by the webhooks blueprint."""

_EXPECTED: Final = (
    "It must be a Checkout, a Flask app with the webhooks blueprint registered, or a callable without arguments that "
    "returns one of them."
)

F = TypeVar("F", bound=Callable[..., Any])


@frozen
class Loaded:
    """A shop's checkout, found. `name` is what it was found by; `app` the Flask app around it, where there is one."""

    name: str
    checkout: Checkout
    app: Any = None

    @contextmanager
    def open(self) -> Iterator[Checkout]:
        """The checkout, inside a fresh app context where it lives in a Flask app: one piece of work, one context.

        Flask-SQLAlchemy gives each context a session of its own and ends it with it, so nothing is left open between
        two pieces of work.
        """
        around: AbstractContextManager[Any] = nullcontext() if self.app is None else self.app.app_context()
        with around:
            yield self.checkout


@contextmanager
def working(shop: Loaded) -> Iterator[Checkout]:
    """`Loaded.open` for a command that does one piece of work: what goes wrong is one sentence and exit code 1."""
    try:
        with shop.open() as checkout:
            yield checkout
    except DepositTokenError as error:
        raise click.ClickException(str(error)) from None
    except Exception as error:
        if not type(error).__module__.startswith("sqlalchemy."):
            raise
        said = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise click.ClickException(
            f"The shop's database did not do it: {said}. Can it be reached, and are the checkout's tables there and of "
            f"this release (SqlStore.create_schema, or the migrations)?"
        ) from None


def checkout_option(command: F) -> F:
    """The option ``--checkout``, given to the command as `spec`: hand it to `checkout_of`."""
    return click.option(
        "--checkout",
        "spec",
        metavar="MODULE:NAME",
        envvar=VARIABLE,
        show_envvar=True,
        help="The shop's Checkout, its Flask app, or a function that makes either.",
    )(command)


def checkout_of(spec: str | None) -> Loaded:
    """The checkout that MODULE:NAME names, the module looked for in the current folder too.

    Raises click.UsageError: nothing is named, it is not there, it is of another kind, or the shop's own code failed.
    """
    if not spec:
        raise click.UsageError(f"Which shop? Name its checkout by --checkout MODULE:NAME, or by {VARIABLE}.")
    module, separator, name = spec.partition(":")
    if not (separator and module and name):
        raise click.UsageError(f"{spec!r} is no MODULE:NAME, as in --checkout shop.payments:checkout.")
    return _loaded(spec, _attribute(_module(module), name, spec))


def _module(name: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return import_module(name)
    except Exception as error:  # noqa: BLE001  # the shop's own module may raise anything as it is imported
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and (name == missing or name.startswith(f"{missing}.")):
            raise click.UsageError(
                f"There is no module {missing!r} in {here} or on Python's path: run the command where the shop's "
                f"code is, or install the shop."
            ) from None
        _shops_own(f"importing {name}", error)


def _attribute(module: Any, path: str, spec: str) -> Any:
    found = module
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise click.UsageError(f"{spec!r}: there is no {path!r} in {module.__name__}. {_EXPECTED}") from None
    return found


def _loaded(spec: str, found: Any, *, called: bool = False) -> Loaded:
    from deposit_token_sdk.checkout.flow import Checkout  # noqa: PLC0415 - what --help does not need is not loaded

    if isinstance(found, Checkout):
        return Loaded(spec, found)
    if hasattr(found, "app_context") and isinstance(getattr(found, "extensions", None), dict):
        checkout = found.extensions.get(EXTENSION)
        if isinstance(checkout, Checkout):
            return Loaded(spec, checkout, found)
        raise click.UsageError(
            f"{spec!r} is a Flask app without a checkout: register the blueprint that "
            f"deposit_token_sdk.integrations.flask.webhooks(checkout) makes, or set app.extensions[{EXTENSION!r}]."
        )
    if callable(found) and not called:
        try:
            made = found()
        except Exception as error:  # noqa: BLE001  # the shop's own function may raise anything
            _shops_own(f"calling {spec}", error)
        return _loaded(spec, made, called=True)
    what = f"{'returned' if called else 'is'} something of type {type(found).__name__}"
    raise click.UsageError(f"{spec!r} {what}. {_EXPECTED}")


def _shops_own(doing: str, error: Exception) -> NoReturn:
    """What the shop's code raised: ours in a sentence, any other with the traceback that its author needs."""
    if isinstance(error, DepositTokenError):
        raise click.UsageError(f"{doing} failed: {error}") from None
    told = "".join(traceback.format_exception(error)).rstrip()
    raise click.UsageError(f"{doing} failed:\n\n{told}") from None
