"""One call by Ant's own Python client, unmodified: what to do is JSON on stdin, what came of it goes to stdout."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from typing import Any


def of(module: str, name: str) -> Any:
    """A class or function of Ant's client."""
    return getattr(import_module(f"com.alipay.ams.api.{module}"), name)


def amount(told: dict[str, str]) -> Any:
    made = of("model.amount", "Amount")()
    made.currency, made.value = told["currency"], told.get("value")
    return made


def quote(asked: dict[str, Any]) -> Any:
    request = of("request.aba.alipay_create_quote_request", "AlipayCreateQuoteRequest")()
    request.buy_amount, request.sell_amount = amount(asked["buy"]), amount(asked["sell"])
    request.exchange_trade_type = "SPOT"
    return request


def session(asked: dict[str, Any]) -> Any:
    request = of("request.pay.alipay_payment_session_request", "AlipayPaymentSessionRequest")()
    request.product_code = "CASHIER_PAYMENT"
    request.payment_request_id = asked["id"]
    order = of("model.order", "Order")()
    order.reference_order_id, order.order_description = asked["id"], "two books"
    order.order_amount = amount(asked["price"])
    request.order, request.payment_amount = order, amount(asked["due"])
    method = of("model.payment_method", "PaymentMethod")()
    method.payment_method_type = asked["method"]
    request.payment_method = method
    request.payment_redirect_url = "https://shop.example/orders/1"
    if asked.get("quote"):
        lock = of("model.quote", "Quote")()
        lock.parse_rsp_body(asked["quote"])
        request.payment_quote = lock
    return request


def inquire(asked: dict[str, Any]) -> Any:
    request = of("request.pay.alipay_pay_query_request", "AlipayPayQueryRequest")()
    request.payment_request_id = asked["id"]
    return request


def refund(asked: dict[str, Any]) -> Any:
    request = of("request.pay.alipay_refund_request", "AlipayRefundRequest")()
    request.refund_request_id, request.payment_id = asked["id"], asked["payment"]
    request.refund_amount = amount(asked["amount"])
    return request


def check(asked: dict[str, Any], public_key: str) -> bool:
    """Ant's own check of a notification."""
    told = (asked["path"], asked["client"], asked["time"], asked["body"], asked["signature"], public_key)
    return bool(of("tools.webhook_tool", "check_signature")("POST", *told))


REQUESTS = {"quote": quote, "session": session, "inquire": inquire, "refund": refund}


def main() -> None:
    asked = json.load(sys.stdin)
    if asked["do"] == "check":
        answer: Any = check(asked, asked["public_key"])
    else:
        made = of("default_alipay_client", "DefaultAlipayClient")
        client = made(asked["gateway"], asked["client_id"], asked["private_key"], asked["public_key"])
        answer = json.loads(client.execute(REQUESTS[asked["do"]](asked)))  # verifies the answer's signature
    json.dump(answer, sys.stdout)


main()
