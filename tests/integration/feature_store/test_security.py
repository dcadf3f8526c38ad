"""TLS, client certificates and ACL users: what is right connects, what is wrong says so.

The packaged server is built without TLS, so a proxy in front of it ends the TLS connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ipaddress
import logging
import select
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from integration.security.pki import AUTHORITY_USAGE

from headrace.feature_store.open import RedisStore
from headrace.schemas.errors import HeadraceError, StoreRefusedError, StoreUnavailableError
from headrace.schemas.protocols import CheckpointMeta, OnlineRows, WriteOutcome

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
async def _farewell() -> AsyncIterator[None]:
    """Leaves redis-py's refused TLS connections the time of their farewell, else they warn."""
    yield
    await asyncio.sleep(0.05)


Opener = Callable[..., Awaitable[RedisStore]]

RIGHTS = [
    "~{*", "+ping", "+evalsha", "+eval", "+hget", "+hset", "+hsetex", "+hdel", "+hlen", "+hmget",
    "+hgetall", "+hscan", "+hincrby", "+hrandfield", "+pexpire", "+pttl", "+persist", "+time",
    "+unlink", "+command|info", "+info",
]  # fmt: skip
"""Every right that the stores need."""


class Authority:
    """A certificate authority of this test run."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._build(self._subject, self._key, ca=True)
        self.path = self._write(f"{name}.pem", certificate.public_bytes(_PEM))

    def issue(self, name: str) -> tuple[str, str]:
        """Paths of a certificate for 127.0.0.1 and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._build(subject, key, ca=False)
        private = key.private_bytes(
            _PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return (
            self._write(f"{self._name}-{name}.pem", certificate.public_bytes(_PEM)),
            self._write(f"{self._name}-{name}.key", private),
        )

    def _build(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, ca: bool
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        public = key.public_key()
        ours = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ours),
                critical=False,
            )
        )
        if ca:
            builder = builder.add_extension(AUTHORITY_USAGE, critical=True)
        else:
            address = x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _write(self, name: str, content: bytes) -> str:
        path = self._folder / name
        path.write_bytes(content)
        return str(path)


_PEM = serialization.Encoding.PEM


@dataclass
class Secured:
    """A server with TLS, client certificates and one ACL user."""

    url: str
    plain: str
    ca: str
    other_ca: str
    cert: str
    key: str
    other_cert: str
    other_key: str
    folder: Path


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, servers: ModuleType) -> Iterator[int]:
    """Port of a plain server with two ACL users and no other."""
    port = servers.free_port()
    options = [
        "--port", str(port), "--user", "headrace", "on", ">right", *RIGHTS,
        "--user", "reader", "on", ">right", "~{*", "+ping", "+hget",
        "--user", "default", "off",
    ]  # fmt: skip
    with servers.server(tmp_path_factory.mktemp("acl"), *options, ready=port):
        yield port


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, guarded: int) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    authority, other = Authority(folder, "ours"), Authority(folder, "theirs")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("server"))
    context.load_verify_locations(authority.path)
    context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = threading.Thread(target=_serve, args=(listener, context, guarded))
        proxy.start()
        yield Secured(
            f"rediss://127.0.0.1:{listener.getsockname()[1]}", f"redis://127.0.0.1:{guarded}",
            authority.path, other.path, *authority.issue("client"), *other.issue("client"), folder,
        )  # fmt: skip
        listener.shutdown(socket.SHUT_RDWR)
        proxy.join()


def _serve(listener: socket.socket, context: ssl.SSLContext, port: int) -> None:
    """End TLS connections one after the other, each forwarded until either side closes."""
    threads: list[threading.Thread] = []
    with contextlib.suppress(OSError):
        while True:
            client, _ = listener.accept()
            threads.append(threading.Thread(target=_forward, args=(client, context, port)))
            threads[-1].start()
    for thread in threads:
        thread.join()


def _forward(client: socket.socket, context: ssl.SSLContext, port: int) -> None:
    with contextlib.suppress(OSError), client:
        client.settimeout(10)
        with (
            context.wrap_socket(client, server_side=True) as tls,
            socket.create_connection(("127.0.0.1", port)) as up,
        ):
            while True:
                ready, _, _ = select.select([tls, up], [], [], 2)
                for source, target in ((tls, up), (up, tls)):
                    if source in ready:
                        chunk = source.recv(1 << 20)
                        if not chunk:
                            return
                        target.sendall(chunk)
                    while isinstance(source, ssl.SSLSocket) and source.pending():
                        target.sendall(source.recv(1 << 20))


async def test_the_right_credentials_can_do_everything(secured: Secured, opened: Opener) -> None:
    """A user with exactly the listed rights, over mutual TLS, with the password from a file."""
    password = secured.folder / "password"
    password.write_text("right\n")
    store = await opened(
        secured.url, ca=secured.ca, cert=secured.cert, key=secured.key, username="headrace",
        password_file=str(password),
    )  # fmt: skip
    one = np.ones(1, np.int64)
    batch = OnlineRows("v", ["a"], one, one, np.ones((1, 1)))
    meta = CheckpointMeta(
        position=1, layout="", format=1, partitions=1, numerics="", epoch=0, last=None
    )
    fields = [(b"%d" % n, b"v") for n in range(3_000)]
    for expires_fields in (True, False):
        both = RedisStore(store._wire, f"x{expires_fields}", expires_fields=expires_fields)
        assert await both.write_rows(batch, epoch=0, ttl_s=60) == 1
        assert await both.write_rows(batch, epoch=0, ttl_s=60) == 1
        assert (await both.read_rows("v", ["a"], width=1, ttl_s=60, now_ms=1)).found[0]
        assert await both.delete_entity("v", "a")
        claim = await both.claim("k")
        assert (
            await both.rewrite("k", claim=claim, meta=meta, fields=fields) is WriteOutcome.WRITTEN
        )
        assert await both.write(
            "k", claim=claim, base=1, meta=meta, changed=fields[:2], dropped=[b"2"]
        )
        snapshot = await both.read("k")
        assert snapshot is not None
        assert len(snapshot.fields) == 2_999
    assert (await store.server_info()).text.startswith("valkey 9")


@pytest.mark.parametrize(
    ("changes", "expected", "said"),
    [
        ({"password": "wrong"}, StoreRefusedError, "invalid username-password"),
        ({"username": "nobody"}, StoreRefusedError, "invalid username-password"),
        ({"username": None, "password": None}, StoreRefusedError, "Authentication required"),
        ({"ca": "other_ca"}, StoreRefusedError, "CERTIFICATE_VERIFY_FAILED"),
        ({"ca": None}, StoreRefusedError, "CERTIFICATE_VERIFY_FAILED"),
        ({"url": "TLS as plain"}, StoreUnavailableError, "did not answer"),
        ({"url": "rediss://127.0.0.1:1"}, StoreUnavailableError, "did not answer"),
        ({"url": "rediss://host.invalid:1"}, StoreUnavailableError, "did not answer"),
        ({"url": "rediss://localhost"}, StoreRefusedError, "mismatch"),
    ],
)
async def test_wrong_credentials_say_so_in_one_line(
    secured: Secured,
    opened: Opener,
    changes: dict[str, str | None],
    expected: type[HeadraceError],
    said: str,
) -> None:
    """Each wrong credential is the right error, in one line that holds no secret."""
    settings: dict[str, str | None] = {
        "url": secured.url, "ca": secured.ca, "cert": secured.cert, "key": secured.key,
        "username": "headrace", "password": "right",
    }  # fmt: skip
    for name, value in changes.items():
        settings[name] = getattr(secured, value, value) if value else None
    settings["url"] = {
        "TLS as plain": secured.url.replace("rediss://", "redis://"),
        "rediss://localhost": secured.url.replace("127.0.0.1", "localhost"),
    }.get(str(settings["url"]), settings["url"])
    with pytest.raises(HeadraceError) as caught:
        await opened(**settings)
    assert type(caught.value) is expected, str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "wrong" not in str(caught.value)


@pytest.mark.parametrize("which", ["other", "none"])
async def test_a_client_certificate_it_does_not_trust(
    secured: Secured, opened: Opener, which: str
) -> None:
    """A server may refuse it or just hang up; either way the line names the certificate."""
    cert, key = (secured.other_cert, secured.other_key) if which == "other" else (None, None)
    with pytest.raises(
        (StoreRefusedError, StoreUnavailableError), match=r"^[^\n]+ client certificate$"
    ):
        await opened(
            secured.url, ca=secured.ca, cert=cert, key=key, username="headrace", password="right"
        )


async def test_a_server_without_tls_is_an_error_in_time(secured: Secured, opened: Opener) -> None:
    """TLS to a server that speaks none is one line, if only after the time-out."""
    url = secured.plain.replace("redis://", "rediss://")
    with pytest.raises((StoreRefusedError, StoreUnavailableError), match=r"^the store at [^\n]+$"):
        await opened(url, ca=secured.ca, timeout_s=0.3)


async def test_missing_rights_say_so(secured: Secured, opened: Opener) -> None:
    """A user without the right to write is refused for good, and told which right is missing."""
    store = await opened(
        secured.url, ca=secured.ca, cert=secured.cert, key=secured.key, username="reader",
        password="right",
    )  # fmt: skip
    with pytest.raises(StoreRefusedError, match="hincrby"):
        await store.claim("k")
    with pytest.raises(StoreRefusedError, match="eval"):
        await store.read_rows("v", ["a"], width=1, ttl_s=60, now_ms=1)
    info = await store.server_info()
    assert "does not say more" in info.warnings[0]


async def test_nothing_secret_is_logged(
    secured: Secured, opened: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither success nor failure logs the password."""
    with caplog.at_level(logging.DEBUG):
        with pytest.raises(HeadraceError):
            await opened(secured.url, ca=secured.ca, username="headrace", password="right-but-no")
        await opened(
            secured.url, ca=secured.ca, cert=secured.cert, key=secured.key, username="headrace",
            password="right",
        )  # fmt: skip
    assert "right" not in caplog.text
