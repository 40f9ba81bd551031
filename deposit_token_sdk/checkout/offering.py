"""What the shop may offer of its banks' tokens: the offer policy, fed from the directory, the banks and the shop.

The rulings are `offers.policy`'s. This room finds what they are made from: the token's entry and the embargo list,
which are read once; the shop's rules; and the banks' lists of tokens, which are asked for again after five minutes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final

from attrs import frozen

from deposit_token_sdk.checkout.hooks import Hooks
from deposit_token_sdk.client import Client
from deposit_token_sdk.errors import DepositTokenError, InvalidInput
from deposit_token_sdk.issuers.protocol import Capability
from deposit_token_sdk.models import Token
from deposit_token_sdk.money import Money
from deposit_token_sdk.offers import directory, policy
from deposit_token_sdk.offers.policy import Offer, Ruling, Screened
from deposit_token_sdk.settings import OfferRules

TOKENS_FOR: Final = timedelta(minutes=5)
"""How long a bank's list of tokens is taken for fresh when offers are listed."""

_DEFAULT: Final = OfferRules()
_LOG = logging.getLogger("deposit_token_sdk")


@frozen
class Offers:
    """The tokens of the shop's banks for one price and buyer. Iterating gives those that may be shown, and no other.

    `refused` are the others, each with its ruling: the shop may show the text, and must not offer the token.
    """

    allowed: tuple[Offer, ...]
    refused: tuple[Offer, ...]

    def __iter__(self) -> Iterator[Offer]:
        return iter(self.allowed)

    def __len__(self) -> int:
        return len(self.allowed)


class Offering:
    """Rules on each token of each client. `rules`, where given, stand in place of the clients' own."""

    def __init__(
        self, clients: Mapping[str, Client], hooks: Hooks, rules: OfferRules | None, now: Callable[[], datetime]
    ) -> None:
        self._clients = clients
        self._hooks = hooks
        self._rules = rules
        self._now = now
        self._listed: dict[str, tuple[datetime, tuple[Token, ...]]] = {}

    def judge(self, token: str, price: Money, buyer_country: str, order_id: str) -> tuple[Client, Ruling]:
        """Whether this token may be offered, and the client to open the attempt with.

        Of several clients, none is asked for its tokens where the policy refuses whichever takes this one. Raises
        InvalidInput (``unknown_token``) and ConfigurationError where a file of the shop's is not understood.
        """
        if len(self._clients) > 1:
            rulings = {name: self._decided(client, token, buyer_country) for name, client in self._clients.items()}
            if not any(ruling.allowed for ruling in rulings.values()):
                name, ruling = next(iter(rulings.items()))
                return self._clients[name], ruling
        client = self._client_for(token)
        return client, self._ruling(client, token, price, buyer_country, order_id)

    def offers(self, price: Money, buyer_country: str, order_id: str) -> Offers:
        """All tokens of the clients, each with its ruling.

        Raises what asking for the tokens raises, where no bank has ever named one.
        """
        made = [
            Offer(token, self._priced(client, token, price, buyer_country, order_id))
            for client, token in self._tokens()
        ]
        allowed = tuple(offer for offer in made if offer.ruling.allowed)
        return Offers(allowed, tuple(offer for offer in made if not offer.ruling.allowed))

    def _priced(self, client: Client, token: Token, price: Money, buyer_country: str, order_id: str) -> Ruling:
        if Capability.QUOTES not in client.issuer.capabilities and price.currency != token.currency:
            return policy.unpriced(token, price)
        return self._ruling(client, token.code, price, buyer_country, order_id)

    def _ruling(self, client: Client, token: str, price: Money, buyer_country: str, order_id: str) -> Ruling:
        """The policy's, if the bank's own description of the token fits it; and last the shop's screening's."""
        ruling = self._decided(client, token, buyer_country)
        if not ruling.allowed:
            return ruling
        rules = self._rules_of(client)
        entry = directory.directory(rules.tokens_file)[token]
        if client.issuer.name not in self._listed:
            self._ask((client.issuer.name,))
        told = self._told(client, token)
        if told is not None:
            ruling = policy.compare(entry, told, ruling)
        hook = self._hooks.screening
        if hook is None or not ruling.allowed:
            return ruling
        return policy.screen(Screened(order_id, entry, price, buyer_country, rules.merchant_country), hook) or ruling

    def _decided(self, client: Client, token: str, buyer_country: str) -> Ruling:
        rules = self._rules_of(client)
        entry = directory.directory(rules.tokens_file).get(token)
        return policy.decide(entry, buyer_country, rules, directory.embargo(rules.embargo_file), client.issuer.mode)

    def _rules_of(self, client: Client) -> OfferRules:
        return self._rules or client.rules or _DEFAULT

    def _client_for(self, token: str) -> Client:
        """The token names its issuer: with several clients, the one whose bank lists it."""
        if len(self._clients) == 1:
            return next(iter(self._clients.values()))
        for fresh in (False, True):
            if fresh:
                self._ask(self._clients)
            for name, client in self._clients.items():
                if self._told(client, token) is not None:
                    return self._clients[name]
        raise InvalidInput("unknown_token", f"None of {', '.join(self._clients)} takes {token!r}.")

    def _told(self, client: Client, token: str) -> Token | None:
        """The token as its bank last described it; None where the bank has not named it."""
        known = self._listed.get(client.issuer.name)
        return None if known is None else next((one for one in known[1] if one.code == token), None)

    def _tokens(self) -> Iterator[tuple[Client, Token]]:
        """Each token once, of the first client that lists it, as `client_for` has it."""
        stale = self._now() - TOKENS_FOR
        due = {name for name in self._clients if name not in self._listed or self._listed[name][0] <= stale}
        failure = self._ask(due)
        if failure is not None and not self._listed:
            raise failure
        seen: set[str] = set()
        for name, client in self._clients.items():
            for token in self._listed.get(name, (None, ()))[1]:
                if token.code not in seen:
                    seen.add(token.code)
                    yield client, token

    def _ask(self, names: Iterable[str]) -> DepositTokenError | None:
        """Ask banks for their tokens; of one that does not answer the last list stays. The last failure, if any."""
        failure = None
        for name in names:
            try:
                self._listed[name] = self._now(), self._clients[name].tokens()
            except DepositTokenError as error:
                failure = error
                _LOG.warning("%s does not name its tokens: %s", name, error)
        return failure
