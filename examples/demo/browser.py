"""As much of a browser as a buyer needs here: pages, and the forms on them."""

from __future__ import annotations

from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

import requests

from examples.demo.processes import StepFailed

TIMEOUT = 20.0


class Form:
    """A form as it stands on the page: where it goes and what it would send."""

    def __init__(self, action: str, method: str) -> None:
        self.action = action
        self.method = method.lower()
        self.fields: dict[str, str] = {}


class _Page(HTMLParser):
    """Reads a page's forms and links. A choice takes what is preselected; a select, else, its first."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: list[str] = []
        self._form: Form | None = None
        self._select = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._form = Form(given.get("action", ""), given.get("method", "get"))
            self.forms.append(self._form)
        elif tag == "a":
            self.links.append(given.get("href", ""))
        elif self._form is None:
            return
        elif tag == "select":
            self._select = given.get("name", "")
        elif tag == "option" and self._select:
            if "selected" in given or self._select not in self._form.fields:
                self._form.fields[self._select] = given.get("value", "")
        elif tag in ("input", "button"):
            self._control(self._form, tag, given)

    def _control(self, form: Form, tag: str, given: Mapping[str, str]) -> None:
        name, kind = given.get("name", ""), given.get("type", "submit" if tag == "button" else "text")
        if kind != "submit" and name and (kind not in ("radio", "checkbox") or "checked" in given):
            form.fields[name] = given.get("value", "on" if kind == "checkbox" else "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        elif tag == "select":
            self._select = ""


class Browser:
    """Follows links and redirects, keeps cookies, submits forms. Uses no proxy: all is on this machine."""

    def __init__(self) -> None:
        self._session = requests.Session()
        self._session.trust_env = False
        self.url = ""
        self.text = ""

    def open(self, url: str) -> None:
        """Go to an address, relative to the page we are on."""
        self._show(self._session.get(urljoin(self.url, url), timeout=TIMEOUT))

    def follow(self, start: str) -> None:
        """Follow the page's link to an address that begins with `start`."""
        link = next((link for link in self._read().links if link.startswith(start)), None)
        if link is None:
            raise StepFailed(f"{self.url} has no link to {start}")
        self.open(link)

    def submit(self, action: str, *, follow: bool = True, **choices: str) -> None:
        """Submit the form whose address contains `action`, with these choices, a button's among them.

        Without `follow`, a redirect is left alone, as by a buyer who closes the page.
        """
        form = next((form for form in self._read().forms if action in urljoin(self.url, form.action)), None)
        if form is None:
            raise StepFailed(f"{self.url} has no form that leads to {action!r}")
        target = urljoin(self.url, form.action)
        values = form.fields | choices
        data, params = (values, None) if form.method == "post" else (None, values)
        page = self._session.request(
            form.method, target, data=data, params=params, timeout=TIMEOUT, allow_redirects=follow
        )
        self._show(page)

    def json(self, url: str) -> Any:
        """What a script on the page would fetch."""
        answer = self._session.get(urljoin(self.url, url), timeout=TIMEOUT)
        answer.raise_for_status()
        return answer.json()

    def _read(self) -> _Page:
        reader = _Page()
        reader.feed(self.text)
        return reader

    def _show(self, page: requests.Response) -> None:
        if page.status_code >= 400:
            raise StepFailed(f"{page.request.method} {page.url} was answered {page.status_code}")
        self.url, self.text = page.url, page.text
