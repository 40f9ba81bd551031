"""TLS trust and proxies: what the environment and the settings say, read once."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address, ip_network
from pathlib import Path
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from deposit_token_sdk.errors import ConfigurationError


def context_of(authorities: str = "") -> ssl.SSLContext:
    """A TLS context that trusts the authorities at this path (a file or a folder) alone; without one, the public ones.

    Raises ConfigurationError (``ca_bundle_unusable``).
    """
    authorities = authorities or DEFAULT_CA_BUNDLE_PATH
    try:
        if Path(authorities).is_dir():
            return ssl.create_default_context(capath=authorities)
        return ssl.create_default_context(cafile=authorities)
    except (OSError, ValueError) as problem:
        raise ConfigurationError(
            "ca_bundle_unusable", f"The certificate authorities at {authorities!r} cannot be read ({problem})."
        ) from None


def shared_context(authorities: str = "") -> ssl.SSLContext:
    """The process's one context that trusts these authorities; whoever changes a context makes another.

    A bundle that was replaced is read anew. Raises ConfigurationError (``ca_bundle_unusable``).
    """
    try:
        read_at = Path(authorities or DEFAULT_CA_BUNDLE_PATH).stat().st_mtime_ns
    except (OSError, ValueError):
        return context_of(authorities)
    return _shared(authorities, read_at)


@lru_cache(maxsize=8)
def _shared(authorities: str, _: int) -> ssl.SSLContext:
    return context_of(authorities)


def present(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Show this certificate to banks that ask. Raises ConfigurationError (``client_certificate_unusable``)."""
    try:
        context.load_cert_chain(certificate, key or None)
    except (OSError, ValueError) as problem:
        raise ConfigurationError(
            "client_certificate_unusable",
            f"The client certificate {certificate!r} with its key {key!r} cannot be used ({problem}): both must be "
            f"PEM files, and belong together.",
        ) from None


def proxies_of(environ: Mapping[str, str]) -> dict[str, str]:
    """The proxies the environment names, by scheme, with `all` and `no`. The small name wins over the capital one.

    Under CGI a client can set HTTP_PROXY by a header ``Proxy`` (CVE-2016-5385): there only the small name counts.
    """
    found: dict[str, str] = {}
    for name in ("http", "https", "all", "no"):
        capital = "" if name == "http" and "REQUEST_METHOD" in environ else environ.get(f"{name.upper()}_PROXY", "")
        value = environ.get(f"{name}_proxy", capital).strip()
        if value:
            found[name] = value
    return found


def proxy_for(scheme: str, host: str, port: int | None, proxies: Mapping[str, str]) -> str | None:
    """The proxy for an origin, None for none. Raises ConfigurationError (``proxy_unsupported``)."""
    proxy = proxies.get(scheme) or proxies.get("all")
    if not proxy or _bypassed(host.strip("[]"), port, proxies):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if not proxy.lower().startswith(("http://", "https://")):
        raise ConfigurationError(
            "proxy_unsupported",
            f"The environment's proxy for {host} is none of http or https: set {scheme}_proxy to one, or no_proxy.",
        )
    return proxy


def _bypassed(host: str, port: int | None, proxies: Mapping[str, str]) -> bool:
    named = f"{host}:{port}" if port else host
    if proxy_bypass_environment(named, dict(proxies)):
        return True
    for entry in proxies.get("no", "").split(","):
        try:
            if ip_address(host) in ip_network(entry.strip(), strict=False):
                return True
        except ValueError:
            continue
    return False
