"""Settings of the bus as keyword arguments of every aiokafka client; loads nothing of it."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from headrace.schemas.errors import SettingsError
from headrace.schemas.settings import BusSettings, Secured

DEFAULT_PORT = 9092
CLIENT = "headrace"

RETRY_MS = 20
"""Pause before a client asks again what a broker could not answer yet. A broker that has just
started loads its groups and producer ids within tens of milliseconds, each asked for once more."""


def client_options(bus: BusSettings) -> dict[str, Any]:
    """Keyword arguments that every aiokafka client takes: servers, TLS, SASL, timeout.

    Nothing connects; every file that is named is read now.

    Raises:
        SettingsError: a URL, file or combination that no connection can be made of. Fatal.

    Example:
        >>> client_options(BusSettings(url="kafka://a:1,b"))["bootstrap_servers"]
        ['a:1', 'b:9092']
    """
    scheme, servers = _servers(bus.url)
    tls = scheme == "kafkas"
    options: dict[str, Any] = {
        "bootstrap_servers": servers,
        "client_id": CLIENT,
        "request_timeout_ms": bus.request_timeout_ms,
        "retry_backoff_ms": RETRY_MS,
        "security_protocol": "SSL" if tls else "PLAINTEXT",
    }
    if tls:
        options["ssl_context"] = tls_context(bus, "bus")
    elif bus.ca or bus.cert or bus.key:
        raise SettingsError(
            f"the bus settings name a certificate, but {bus.url!r} is plain; use kafkas://"
        )
    return {**options, **_sasl(bus, tls)}


def _servers(url: str) -> tuple[str, list[str]]:
    """Scheme, and each ``host:port`` of the URL; the URL is not shown, it may hold a password."""
    if url == "local":
        raise SettingsError(
            "the bus is 'local', which names no server yet; start it first, or name a bus in "
            "HEADRACE_BUS"
        )
    scheme, _, rest = url.partition("://")
    if scheme not in ("kafka", "kafkas") or not rest:
        raise SettingsError(
            "the bus url has another form than expected; write kafka://host:port,host:port, or "
            "kafkas:// for TLS, or local"
        )
    if "@" in rest:
        raise SettingsError(
            "the bus url holds a user or a password; put them into HEADRACE_BUS_USERNAME and "
            "HEADRACE_BUS_PASSWORD_FILE"
        )
    return scheme, [_server(part.strip()) for part in rest.rstrip("/").split(",")]


def _server(part: str) -> str:
    try:
        found = urlsplit(f"//{part}")
        host, port = found.hostname, found.port
    except ValueError:
        host = None
    if not host or found.path or found.query or found.fragment:
        raise SettingsError(
            f"the bus url names the server {part!r}, expected host:port with a port up to 65535"
        )
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{port or DEFAULT_PORT}"


def tls_context(trust: Secured, what: str) -> ssl.SSLContext:
    """A context that verifies the server by the named authorities, else by the system's.

    Args:
        trust: Settings with `ca`, `cert` and `key`.
        what: Whose settings they are, for messages.

    Raises:
        SettingsError: a file is missing, unreadable or not what it should be. Fatal.
    """
    for name in ("ca", "cert", "key"):
        file = getattr(trust, name)
        if file is not None and not Path(file).is_file():
            raise SettingsError(
                f"{what}.{name} names {file!r}, which is no file; name a readable PEM file"
            )
    if trust.key and not trust.cert:
        raise SettingsError(f"{what}.key is set without {what}.cert; name both, or neither")
    try:
        context = ssl.create_default_context(cafile=trust.ca)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"{what}.ca {trust.ca!r} cannot be used ({_reason(error)}); name a PEM file of "
            f"certificates"
        ) from error
    if trust.cert:
        try:
            context.load_cert_chain(trust.cert, trust.key)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(
                f"{what}.cert {trust.cert!r} and its key cannot be used ({_reason(error)}); name "
                f"PEM files of a certificate and of its own private key"
            ) from error
    return context


def _reason(error: OSError) -> str:
    return getattr(error, "reason", None) or error.strerror or type(error).__name__


def _sasl(bus: BusSettings, tls: bool) -> dict[str, Any]:
    password = bus.secret()
    if bus.username is None:
        if password is not None:
            raise SettingsError(
                "the bus settings hold a password but no user; set HEADRACE_BUS_USERNAME"
            )
        return {}
    if password is None:
        raise SettingsError(
            f"the bus settings name the user {bus.username!r} but no password; set "
            f"HEADRACE_BUS_PASSWORD_FILE"
        )
    return {
        "security_protocol": "SASL_SSL" if tls else "SASL_PLAINTEXT",
        "sasl_mechanism": bus.mechanism,
        "sasl_plain_username": bus.username,
        "sasl_plain_password": password,
    }
