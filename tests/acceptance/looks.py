"""What the tests look at a page with: a camera, a reader of QR codes, and axe-core's rules."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import zxingcpp
from axe_playwright_python.base import AXE_SCRIPT  # type: ignore[import-untyped]  # the package ships no types
from PIL import Image
from playwright.sync_api import Page, ViewportSize

SCREENSHOTS = Path(__file__).parents[2] / "build/screenshots"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa"]
SIDEWAYS = """[...document.querySelectorAll("*")].filter(each => each.scrollWidth > each.clientWidth + 1
  && !["PRE", "INPUT", "SELECT"].includes(each.tagName) && ["auto", "scroll"].includes(getComputedStyle(each).overflowX)
).map(each => each.outerHTML.slice(0, 80))"""
RUN = "rules => axe.run({runOnly: {type: 'tag', values: rules}, resultTypes: ['violations']}).then(r => r.violations)"


def photograph(page: Page, name: str) -> None:
    """Keep the whole page as build/screenshots/<name>.png."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


def violations(page: Page) -> list[str]:
    """What axe-core finds on the page against WCAG 2.2, levels A and AA. It is brought into the page once."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    found: list[dict[str, Any]] = page.evaluate(RUN, RULES)
    return [f"{one['id']}: {[node['html'] for node in one['nodes']]}" for one in found]


class Inspector:
    """Looks at each page in each of the given looks (a window's size, dark or light): photographs it, has axe-core
    judge it, and sees that nothing sticks out at the side or must be moved sideways to be read.
    """

    def __init__(self, page: Page, of: str, looks: dict[str, tuple[dict[str, int], bool]]) -> None:
        self.page = page
        self.of = of
        self.looks = looks
        self.found: list[str] = []

    def inspect(self, name: str) -> None:
        """Keep what is wrong with the page as it stands, and its pictures, under this name."""
        for look, (size, dark) in self.looks.items():
            self.page.set_viewport_size(ViewportSize(width=size["width"], height=size["height"]))
            self.page.emulate_media(color_scheme="dark" if dark else "light")
            photograph(self.page, f"{self.of}-{name}-{look}")
            self.found += [f"{name}, {look}: {violation}" for violation in violations(self.page)]
            if self.page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
                self.found.append(f"{name}, {look}: wider than the window")
            self.found += [f"{name}, {look}: cut off at the side: {part}" for part in self.page.evaluate(SIDEWAYS)]


def qr_code(page: Page, selector: str = ".qr svg") -> str:
    """The text of the QR code, read from its picture."""
    picture = Image.open(io.BytesIO(page.locator(selector).screenshot())).convert("L")
    (code,) = zxingcpp.read_barcodes(picture)
    return str(code.text)
