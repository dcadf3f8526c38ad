"""Who may look: anybody on this machine, or who has the token."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from urllib.parse import urlsplit

from headrace.schemas.errors import SettingsError

LEAST_TOKEN = 16
"""Characters: what a patient guesser does not find."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
        (True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Access:
    """Judges requests.

    Without a token only names of this machine are answered to: a page of elsewhere whose name
    was made to lead here (DNS rebinding) is refused.

    Args:
        host: The address the console listens on.
        token: What opens it; None: being on this machine does.

    Raises:
        SettingsError: other machines reach it and there is no token, or one too short. Fatal.
    """

    def __init__(self, host: str, token: str | None) -> None:
        if token is None and not is_loopback(host):
            raise SettingsError(
                f"console.address {host} is reached by other machines and console.token_file is "
                f"not set; name a file with a token, or listen on 127.0.0.1"
            )
        if token is not None and len(token) < LEAST_TOKEN:
            raise SettingsError(
                f"the console's token has {len(token)} characters, expected {LEAST_TOKEN} or "
                f"more; make one with: openssl rand -hex 16"
            )
        self._token = None if token is None else _digest(token)
        # Not the token: what a browser keeps opens this process only.
        self.session = secrets.token_urlsafe(32)

    @property
    def guarded(self) -> bool:
        """It asks for a token."""
        return self._token is not None

    def names_us(self, host: str) -> bool:
        """Whether the name a request was sent to may be ours: ``host`` or ``host:port``."""
        if self.guarded:
            return True
        try:
            return is_loopback(urlsplit(f"//{host}").hostname or "")
        except ValueError:
            return False

    def opens(self, token: str) -> bool:
        """Whether it is the token; takes as long for a wrong one."""
        return self._token is not None and hmac.compare_digest(_digest(token), self._token)

    def knows(self, session: str | None, authorization: str | None) -> bool:
        """Whether a request may be answered.

        Args:
            session: Its cookie.
            authorization: Its header, ``Bearer TOKEN``.
        """
        if not self.guarded:
            return True
        if session is not None and hmac.compare_digest(_digest(session), _digest(self.session)):
            return True
        scheme, _, token = (authorization or "").partition(" ")
        return scheme.lower() == "bearer" and self.opens(token.strip())


def _digest(text: str) -> bytes:
    # Of one length, so that a comparison tells nothing of the token's.
    # Bytes of a header that are no UTF-8 come as surrogates: they are wrong, and no error.
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
