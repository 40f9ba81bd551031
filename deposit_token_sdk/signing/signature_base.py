"""The text that an HTTP message signature signs (RFC 9421, section 2.5).

Pure: a message and the list of what is covered give one text, or a refusal. Which components must be covered,
and by whose key, is `http_signatures`' question. Of the component parameters `req` alone is known (section 2.4).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from attrs import field, frozen

from deposit_token_sdk.errors import NotGenuine
from deposit_token_sdk.signing.structured_fields import InnerList, Item, serialize_item, serialize_parameters


@frozen
class Message:
    """A request (`method`, `url`) or an answer (`status`, and the request it answers). Header names are lower case."""

    headers: Mapping[str, str] = field(repr=False)
    method: str = ""
    url: str = ""
    status: int | None = None
    request: Message | None = None


def signature_base(covered: InnerList, message: Message) -> bytes:
    """The bytes to sign. Raises NotGenuine: ``header_missing``, ``header_malformed``, ``component_unknown``."""
    return base_and_parameters(covered, message)[0]


def base_and_parameters(covered: InnerList, message: Message) -> tuple[bytes, str]:
    """The bytes to sign, and what is covered as it is written in Signature-Input."""
    identifiers = covered.written
    if len(set(identifiers)) != len(identifiers):
        raise NotGenuine("header_malformed", "The signature covers one component twice.")
    lines = [
        f"{identifier}: {_value(item, message)}" for identifier, item in zip(identifiers, covered.items, strict=True)
    ]
    parameters = f"({' '.join(identifiers)}){serialize_parameters(covered.parameters)}"
    lines.append(f'"@signature-params": {parameters}')
    return "\n".join(lines).encode("ascii"), parameters


def _value(item: Item, message: Message) -> str:
    name = item.value
    if not isinstance(name, str) or name != name.lower():
        raise _unknown(item)
    if item.parameters:
        if item.parameters != {"req": True} or message.request is None:
            raise _unknown(item)
        message = message.request
    if name.startswith("@"):
        derive = _DERIVED.get(name)
        if derive is None or (message.status is None) == (name == "@status"):
            raise _unknown(item)
        return _clean(name, derive(message))
    value = message.headers.get(name)
    if value is None:
        raise NotGenuine(
            "header_missing",
            f"The signature covers the header {name!r}, which did not arrive.",
            hint="A proxy may have stripped it.",
        )
    return _clean(name, value.strip(" \t"))


def _clean(name: str, value: str) -> str:
    if not value.isascii() or not (value.isprintable() or value.replace("\t", "").isprintable()):
        raise NotGenuine("header_malformed", f"{name!r} holds a line break or a character outside ASCII.")
    return value


def _unknown(item: Item) -> NotGenuine:
    return NotGenuine(
        "component_unknown", f"The signature covers {serialize_item(item)[:80]}, which is not known here."
    )


def _authority(message: Message) -> str:
    parts = urlsplit(message.url)
    host = parts.netloc.rpartition("@")[2].lower()
    default_port = {"https": ":443", "http": ":80"}.get(parts.scheme, "")
    return host.removesuffix(default_port) if default_port else host


_DERIVED: dict[str, Callable[[Message], str]] = {
    "@method": lambda message: message.method,
    "@target-uri": lambda message: message.url,
    "@status": lambda message: str(message.status),
    "@authority": _authority,
    "@scheme": lambda message: urlsplit(message.url).scheme,
    "@path": lambda message: urlsplit(message.url).path or "/",
    "@query": lambda message: "?" + urlsplit(message.url).query,
}
