"""Who may look at the console."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.schemas.errors import SettingsError
from headrace.schemas.settings import ConsoleSettings, load_settings
from headrace.streams.console.access import Access

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "console.example"])
def test_other_machines_need_a_token(host: str) -> None:
    """An address that others reach is refused without one, and taken with it."""
    with pytest.raises(SettingsError, match=r"console\.token_file"):
        Access(host, None)
    assert Access(host, TOKEN).guarded


def test_a_short_token_is_refused() -> None:
    """Its length is told, itself is not."""
    with pytest.raises(SettingsError) as refused:
        Access("127.0.0.1", "secret")
    assert "6 characters" in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("host", ["127.0.0.1:80", "localhost", "[::1]:9", "127.9.9.9"])
def test_names_of_this_machine_are_ours(host: str) -> None:
    """What a browser on this machine sends."""
    assert Access("127.0.0.1", None).names_us(host)


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:80", "localhost.evil.example", "", "[", "a b"]
)
def test_names_of_elsewhere_are_not(host: str) -> None:
    """A page of elsewhere whose name leads here reads nothing."""
    assert not Access("127.0.0.1", None).names_us(host)


def test_session_and_bearer_open() -> None:
    """The cookie of this process, or the token itself; nothing that looks like them."""
    access, other = Access("0.0.0.0", TOKEN), Access("0.0.0.0", TOKEN)
    assert access.opens(TOKEN)
    assert access.knows(access.session, None)
    assert access.knows(None, f"Bearer {TOKEN}")
    for session, header in [
        (None, None), ("", ""), (other.session, None), (TOKEN, None), (None, TOKEN),
        (None, f"Basic {TOKEN}"), (None, f"Bearer {TOKEN}x"), (None, "Bearer "), ("ä", "Bearer ä"),
        ("\udcff", None), (None, "Bearer \udcff"),
    ]:  # fmt: skip
        assert not access.knows(session, header)
    assert not access.opens("")


def test_settings() -> None:
    """Loopback on a free port unless told otherwise; off is off; a wrong place is one line."""
    assert ConsoleSettings().place() == ("127.0.0.1", 0)
    found = load_settings(None, {"HEADRACE_CONSOLE": "[::1]:9000"}).console
    assert found.place() == ("::1", 9000)
    assert ConsoleSettings(address="off").place() is None
    with pytest.raises(SettingsError, match=r"console\.address is 'nowhere'"):
        ConsoleSettings(address="nowhere").place()


def test_the_token_is_the_first_line_of_its_file(tmp_path: Path) -> None:
    """Read when asked for; a file that is not there is one line."""
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\nnot this\n", "utf-8")
    assert ConsoleSettings(token_file=str(file)).token() == TOKEN
    with pytest.raises(SettingsError, match="token file"):
        ConsoleSettings(token_file=str(tmp_path / "gone")).token()
