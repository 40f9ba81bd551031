"""The pages a buyer sees: products, basket, checkout, and the pages of an order at its unguessable address."""

from __future__ import annotations

from typing import cast

from flask import (
    Blueprint,
    Response,
    abort,
    current_app,
    flash,
    jsonify,
    redirect,
    render_template,
    request,
    url_for,
)
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from deposit_token_sdk import (
    BankRefused,
    BankUnavailable,
    DepositTokenError,
    InvalidInput,
    NotAllowed,
    OrderChanged,
    OutcomeUnknown,
    PriceRefused,
    Unsupported,
)
from deposit_token_sdk.evidence import authenticate_stored
from deposit_token_sdk.models import Confirmation, Proof
from deposit_token_sdk.offers.policy import REASONS
from examples.flask_shop import basket, invoice, languages, orders
from examples.flask_shop.catalogue import COUNTRIES
from examples.flask_shop.languages import N_
from examples.flask_shop.languages import gettext as _
from examples.flask_shop.models import Order, db, order_at, products
from examples.flask_shop.payments import payments

shop = Blueprint("shop", __name__)

PAGES = {f"shop.{page}" for page in ("index", "show_basket", "checkout", "my_orders", "order", "receipt")}
"""Where the choice of a language leads back to."""

SOLD_OUT_WORDS = {
    "nets_nothing": N_(
        "This sum is too small to be paid in that token. Choose another token, or put more in the basket."
    ),
    "unsupported_currency": N_("The bank does not price that currency in this token. Choose another token."),
    "unsupported": N_("The bank does not price that currency in this token. Choose another token."),
}
COUNTRY_REASONS = {"mainland_china", "embargo", "country_not_served", "country_unknown", "unlicensed"}
UNREACHABLE = N_(
    "The bank cannot be reached at the moment. Whoever has already paid need do nothing: the page of the order will "
    "show it. If you have not paid yet, please try again shortly."
)
IN_REVIEW = N_("Your payment is being looked at. Please do not pay again: we deliver, or we send it back.")


@shop.get("/")
def index() -> str:
    return render_template("index.html", products=products())


@shop.get("/favicon.ico")
def favicon() -> AnyResponse:
    return current_app.send_static_file("favicon.svg")


@shop.post("/currency")
def choose_currency() -> AnyResponse:
    basket.choose_currency(request.form.get("currency", ""))
    page = "shop.show_basket" if request.form.get("back") == "basket" else "shop.index"
    return redirect(url_for(page), 303)


@shop.post("/language")
def choose_language() -> AnyResponse:
    languages.choose_language(request.form.get("language", ""))
    return redirect(_page_of_ours(request.form.get("back", "")), 303)


def _page_of_ours(path: str) -> str:
    """The address, made anew, of the page at this path; the first page if there is none of a buyer's there."""
    try:
        endpoint, values = current_app.url_map.bind("").match(path, method="GET")
    except HTTPException:
        endpoint, values = "", {}
    return url_for(endpoint, **values) if endpoint in PAGES else url_for("shop.index")


@shop.get("/basket")
def show_basket() -> str:
    chosen = basket.choices()
    return render_template("basket.html", choices=chosen, total=basket.total(chosen))


@shop.post("/basket")
def change_basket() -> AnyResponse:
    """Put pieces in (`add`), or have exactly so many (`count`)."""
    sku = request.form.get("sku", "")
    if all(product.sku != sku for product in products()):
        abort(404, _("There is no such product."))
    added = request.form.get("add", type=int)
    count = request.form.get("count", 0, type=int)
    basket.set_count(sku, count if added is None else basket.count_of(sku) + max(added, 0))
    return redirect(url_for("shop.show_basket"), 303)


@shop.get("/checkout")
def checkout() -> str | AnyResponse:
    chosen = basket.choices()
    if not chosen:
        return redirect(url_for("shop.show_basket"))
    order = order_at(orders.ticket()[1])
    if order and order.state != "open":
        orders.part_with_ticket()
        orders.ticket()
        order = None
    country, token = (order.country, order.token) if order else ("DE", "")
    if request.args.get("country") in COUNTRIES:
        country = request.args["country"]
    try:
        offers = payments().checkout.offers(basket.total(chosen), country)
    except DepositTokenError as error:
        current_app.logger.warning("No list of tokens: %s", error)
        offers = None
    codes = [offer.token.code for offer in offers or ()]
    return render_template(
        "checkout.html",
        choices=chosen,
        total=basket.total(chosen),
        offers=offers,
        refused_word=refused_word,
        countries=COUNTRIES,
        country=country,
        token=token if token in codes else next(iter(codes), ""),
    )


@shop.post("/checkout/offers")
def show_offers() -> AnyResponse:
    """Show what can be paid with in the country that is chosen now."""
    return redirect(url_for("shop.checkout", country=request.form.get("country")), 303)


@shop.post("/checkout")
def place_order() -> AnyResponse:
    chosen = basket.choices()
    token, country = request.form.get("token", ""), request.form.get("country", "")
    if not chosen:
        return redirect(url_for("shop.show_basket"), 303)
    offers = payments().checkout.offers(basket.total(chosen), country)
    if country not in COUNTRIES or token not in {known.token.code for known in (*offers.allowed, *offers.refused)}:
        flash(_("Choose a country and a token from the lists."), "warning")
        return redirect(url_for("shop.checkout"), 303)
    order = orders.place(basket.lines(chosen), country, token)
    if order.state != "open":
        return _as_it_was(order, changed=orders.basket_differs(order))
    return _start(order, order.latest, token, country, otherwise=url_for("shop.checkout"))


@shop.post("/checkout/separate")
def order_separately() -> AnyResponse:
    """Leave the order that is being paid as it is, and make another of what is in the basket now."""
    orders.part_with_ticket()
    return redirect(url_for("shop.checkout"), 303)


@shop.get("/orders")
def my_orders() -> str:
    return render_template("orders.html", orders=orders.remembered())


@shop.get("/orders/<address>")
def order(address: str) -> str:
    found = _order(address)
    view = payments().look(found.id)
    orders.close(found)
    return render_template("order.html", **orders.page(found, view))


@shop.get("/orders/<address>/return")
def come_back(address: str) -> AnyResponse:
    """Where the bank sends the buyer back to: the bank is asked, whatever its webhooks did or did not bring."""
    payments().ask(_order(address).id)
    return redirect(url_for("shop.order", address=address), 303)


@shop.get("/orders/<address>/status")
def status(address: str) -> Response:
    """The status part of the page, for a page that is open. `mark` changes when what is said changes."""
    found = _order(address)
    page = orders.page(found, payments().look(found.id))
    orders.close(found)
    return jsonify(
        order=found.id,
        situation=page["situation"],
        mark=page["mark"],
        final=page["situation"].final,
        left=page["lock"].left if page["lock"] else None,
        now=page["lock"].now.isoformat() if page["lock"] else None,
        html=render_template("_status.html", **page),
    )


@shop.post("/orders/<address>/again")
def again(address: str) -> AnyResponse:
    """Ask for a new price, for what the page showed."""
    found = _order(address)
    page = url_for("shop.order", address=address)
    last = payments().view(found.id).attempt
    if last is None:
        return _start(found, found.latest, found.token, found.country, otherwise=page)
    return _start(found, last.content, last.token, last.buyer_country, otherwise=page)


@shop.post("/orders/<address>/agree")
def agree(address: str) -> AnyResponse:
    """The buyer agrees to the total of this very price. If it is not the present one, the page shows which is."""
    found = _order(address)
    attempt = payments().view(found.id).attempt
    if attempt is not None and attempt.reference == request.form.get("reference"):
        invoice.agree(attempt)
    return redirect(url_for("shop.order", address=address), 303)


@shop.post("/orders/<address>/consent")
def consent(address: str) -> AnyResponse:
    """The buyer agrees that we collect the total of this price. If it is not the present one, the page shows it."""
    found = _order(address)
    attempt = payments().view(found.id).attempt
    if attempt is not None and attempt.reference == request.form.get("reference"):
        try:
            payments().checkout.collect(found.id)
        except (NotAllowed, OutcomeUnknown) as error:
            current_app.logger.info("Order %s was not collected: %s", found.id, error)
        except (BankRefused, BankUnavailable) as error:
            current_app.logger.warning("Order %s was refused: %s", found.id, error)
            flash(_("The payment could not be collected. Nothing was charged, and your order is kept."), "warning")
    return redirect(url_for("shop.order", address=address), 303)


@shop.get("/orders/<address>/receipt")
def receipt(address: str) -> str | AnyResponse:
    found = _order(address)
    view = payments().view(found.id)
    if not view.paid:
        return redirect(url_for("shop.order", address=address))
    orders.close(found)
    return render_template("receipt.html", confirmations=_verified(found), **orders.page(found, view))


@shop.get("/orders/<address>/confirmation-<int:number>.jws")
def confirmation(address: str, number: int) -> Response:
    """The bank's statement itself, to keep."""
    signed = _verified(_order(address))
    if not 1 <= number <= len(signed):
        abort(404)
    return Response(signed[number - 1].evidence.content, mimetype="application/jose")


@shop.get("/orders/<address>/confirmation-<int:number>-keys.json")
def confirmation_keys(address: str, number: int) -> Response:
    """The bank's public keys that were kept beside that statement, as a JWK set (RFC 7517)."""
    signed = _verified(_order(address))
    if not 1 <= number <= len(signed):
        abort(404)
    return Response(signed[number - 1].evidence.keys, mimetype="application/jwk-set+json")


def _order(address: str) -> Order:
    found = order_at(address)
    if found is None:
        abort(404, _("There is no order at this address."))
    return found


def _verified(found: Order) -> list[Confirmation]:
    """The order's signed confirmations, each verified again, offline, with the keys that were kept beside it."""
    kept = payments().store.evidence(found.id)
    return [authenticate_stored(known.evidence) for known in kept if known.proof is Proof.JWS]


def _start(found: Order, digest: str, token: str, country: str, *, otherwise: str) -> AnyResponse:
    """Have the order priced and show its page, or `otherwise` where the bank gave nothing to show."""
    return_url = cast(str, current_app.config["SHOP_URL"]) + url_for("shop.come_back", address=found.address)
    try:
        payments().start(found, digest, token, country, return_url)
    except OrderChanged:
        orders.stay_with(found, payments().view(found.id).attempt)
        return _as_it_was(found, changed=True)
    except NotAllowed as error:
        current_app.logger.info("Order %s was not started: %s", found.id, error)
        if error.reason in REASONS:  # the offer policy's: the bank was not asked, and an earlier price still stands
            orders.stay_with(found, payments().view(found.id).attempt)
            flash(f"{token}: {refused_word(error.reason)}", "warning")
            return redirect(otherwise, 303)
        return _not_started(found, digest, error)
    except OutcomeUnknown:
        current_app.logger.warning("The bank's answer on order %s is not known yet", found.id)
    except (PriceRefused, BankRefused, InvalidInput, Unsupported) as error:
        current_app.logger.warning("Order %s was refused: %s", found.id, error)
        text = SOLD_OUT_WORDS.get(error.reason, N_("The bank gave no price for this (%(reason)s)."))
        flash(_(text).replace("%(reason)s", error.reason), "warning")
        return redirect(otherwise, 303)
    except BankUnavailable as error:
        current_app.logger.warning("The bank cannot be reached: %s", error)
        flash(_(UNREACHABLE), "warning")
        return redirect(otherwise, 303)
    return redirect(url_for("shop.order", address=found.address), 303)


def refused_word(reason: str) -> str:
    """Why a token is not offered, as a buyer is told it."""
    if reason in COUNTRY_REASONS:
        return _("This token is not offered to buyers in that country.")
    return _("This shop does not offer this token.")


def _not_started(found: Order, digest: str, error: NotAllowed) -> AnyResponse:
    """The order is paid by now, or its payment waits for a person, or its page will show what another tab began."""
    changed = False
    if error.reason == "order_paid":
        db.session.refresh(found)
        changed = digest != found.paid
    elif error.reason == "payment_in_review":
        orders.stay_with(found, payments().view(found.id).attempt)
        flash(_(IN_REVIEW), "warning")
    return _as_it_was(found, changed=changed)


def _as_it_was(found: Order, *, changed: bool) -> AnyResponse:
    """The order's own page; where the basket has `changed` since, it offers to order that separately."""
    if changed:
        flash("", "changed")
    return redirect(url_for("shop.order", address=found.address), 303)
