"""Buy once on a phone and once at a desk, and put the invoice page beside the paid page: ``docs/pictures/*.png``."""

from __future__ import annotations

import base64
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright
from werkzeug.serving import WSGIRequestHandler, make_server

from deposit_token_sdk.sandbox import Sandbox
from examples.flask_shop import create_app

CHROMIUM = Path("/usr/bin/chromium-headless-shell")
PICTURES = Path(__file__).parents[2] / "docs/pictures"
SIZES = {"phone": ViewportSize(width=360, height=740), "desktop": ViewportSize(width=1280, height=800)}
GAP = 16
BESIDE = (
    "<!doctype html><html lang=en><title>Pictures</title><style>body{{margin:0;display:flex;gap:{gap}px;"
    "align-items:start;background:#8a9186;padding:{gap}px;width:max-content}}img{{display:block}}</style>{images}"
)


def main() -> int:
    if not CHROMIUM.exists():
        sys.stderr.write(f"{CHROMIUM} is missing: install the package chromium-headless-shell.\n")
        return 2
    PICTURES.mkdir(parents=True, exist_ok=True)
    with (
        TemporaryDirectory() as folder,
        Sandbox(Path(folder) / "bank") as bank,
        shop(bank, Path(folder)) as address,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--no-proxy-server"])
        for name, size in SIZES.items():
            path = PICTURES / f"{name}.png"
            path.write_bytes(beside(browser, purchase(browser, address, size)))
            sys.stdout.write(f"{path.relative_to(PICTURES.parents[1])}\n")
        browser.close()
    return 0


class Quiet(WSGIRequestHandler):
    """Tells nothing of the requests it answers."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


@contextmanager
def shop(bank: Sandbox, folder: Path) -> Iterator[str]:
    """The shop, in this process, at that bank; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        address = f"http://127.0.0.1:{port}"
        app = create_app({**bank.environment(), "SHOP_DATABASE": str(folder / "shop.sqlite"), "SHOP_URL": address})
        bank.control.set_webhook_url(f"{address}/webhooks/sandbox-bank")
        server = make_server("127.0.0.1", port, app, threaded=True, request_handler=Quiet, fd=listening.fileno())
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield address
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def purchase(browser: Browser, shop: str, size: ViewportSize) -> list[bytes]:
    """The page of an order before and after it is paid."""
    with browser.new_context(viewport=size, locale="en-GB", color_scheme="light") as context:
        page = context.new_page()
        page.goto(shop)
        page.get_by_role("button", name="Put Travel tea set into the basket").click()
        page.get_by_role("link", name="To the checkout").click()
        page.get_by_role("radio", name="SBUSD").check()
        page.get_by_role("button", name="Ask for the price").click()
        page.get_by_role("link", name="Pay at the bank").wait_for()
        to_be_paid = photograph(page)
        page.get_by_role("link", name="Pay at the bank").click()
        page.get_by_role("button", name="Approve").click()
        page.get_by_role("heading", name="Paid", exact=True).wait_for()
        return [to_be_paid, photograph(page)]


def photograph(page: Page) -> bytes:
    return page.screenshot(full_page=True, animations="disabled")


def beside(browser: Browser, pictures: list[bytes]) -> bytes:
    """The pictures as one, from left to right."""
    images = [f'<img alt="" src="data:image/png;base64,{base64.b64encode(picture).decode()}">' for picture in pictures]
    with browser.new_context(viewport={"width": 100, "height": 100}) as context:
        page = context.new_page()
        page.set_content(BESIDE.format(gap=GAP, images="".join(images)))
        return page.locator("body").screenshot()


if __name__ == "__main__":
    sys.exit(main())
