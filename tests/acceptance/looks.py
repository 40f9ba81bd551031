"""What the tests look at a page with: a camera, a reader of QR codes, and axe-core's rules."""

from __future__ import annotations

import io
from pathlib import Path

import zxingcpp
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from PIL import Image
from playwright.sync_api import Page

SCREENSHOTS = Path(__file__).parents[2] / "build/screenshots"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa"]


def photograph(page: Page, name: str) -> None:
    """Keep the whole page as build/screenshots/<name>.png."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


def violations(page: Page) -> list[str]:
    """What axe-core finds on the page against WCAG 2.2, levels A and AA."""
    found = Axe().run(page, options={"runOnly": {"type": "tag", "values": RULES}})
    return [f"{one['id']}: {[node['html'] for node in one['nodes']]}" for one in found.response["violations"]]


def qr_code(page: Page, selector: str = ".qr svg") -> str:
    """The text of the QR code, read from its picture."""
    picture = Image.open(io.BytesIO(page.locator(selector).screenshot())).convert("L")
    (code,) = zxingcpp.read_barcodes(picture)
    return str(code.text)
