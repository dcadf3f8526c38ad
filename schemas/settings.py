"""Where this worker runs: bus, store and process limits. What runs is the pipeline file.

One frozen tree, from defaults < TOML file < ``HEADRACE_*`` environment. An unknown key is an error
that names the nearest known one. Secrets come from the environment or from files, never from the
TOML file, and are masked whenever the tree is printed.

Environment names are ``HEADRACE_<SECTION>_<FIELD>``; a section's main field is
``HEADRACE_<SECTION>``: ``HEADRACE_BUS=kafka://broker:9092``, ``HEADRACE_HEALTH=127.0.0.1:8080``,
``HEADRACE_STORE_PASSWORD_FILE=/run/secrets/redis``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from headrace.schemas.errors import SettingsError
from headrace.schemas.strict import convert, nearest

Positive = Annotated[int, Meta(gt=0)]
Seconds = Annotated[float, Meta(gt=0)]


class Secured(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What bus and store have in common: who we are and whom we trust.

    Attributes:
        url: Where it is.
        username: SASL or ACL user.
        password: Its password; prefer `password_file`.
        password_file: File whose first line is the password.
        ca: PEM file of the authorities to trust instead of the system's.
        cert: PEM file of our client certificate.
        key: PEM file of its private key.
    """

    url: str
    username: str | None = None
    password: str | None = None
    password_file: str | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    def secret(self) -> str | None:
        """The password, read from its file when one is named.

        Raises:
            SettingsError: the file cannot be read. Fatal.
        """
        if self.password_file is None:
            return self.password
        return _first_line(self.password_file, "password")

    def __repr__(self) -> str:
        shown = {
            name: "***" if name == "password" else getattr(self, name)
            for name in self.__struct_fields__
            if getattr(self, name) is not None
        }
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in shown.items())})"


class BusSettings(Secured, frozen=True, kw_only=True):
    """The event bus.

    Attributes:
        url: ``local`` picks a bus on this machine (see `kind`); ``kafka://host:port,host:port`` is
            plain, ``kafkas://…`` is TLS. A username turns SASL on.
        kind: With ``url = "local"``: ``embedded`` is the in-memory bus, ``kafka`` the durable one,
            ``auto`` takes Kafka where it is already installed. Beside an address, ``embedded``
            says that it is another command's embedded bus.
        mechanism: SASL mechanism.
        request_timeout_ms: Longest wait for one answer of a broker, milliseconds.
    """

    url: str = "local"
    kind: Literal["auto", "embedded", "kafka"] = "auto"
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    request_timeout_ms: Positive = 15_000


class StoreSettings(Secured, frozen=True, kw_only=True):
    """The online store: any Redis-compatible server.

    Attributes:
        url: ``local`` starts one on this machine; ``redis://host:port/db`` is plain,
            ``rediss://…`` is TLS, ``redis+cluster://…`` and ``rediss+cluster://…`` are a cluster.
        timeout_s: Longest wait for one answer, seconds.
    """

    url: str = "local"
    timeout_s: Seconds = 5.0


class WorkerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Limits of one worker process.

    Attributes:
        shutdown_s: Longest time a stopping worker may take to finish its open batches, seconds.
        data_dir: Where local services keep their files; None is the user's cache folder.
    """

    shutdown_s: Seconds = 10.0
    data_dir: str | None = None


class HealthSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The health endpoints of `headrace up`.

    Attributes:
        address: ``host:port`` to answer on, or ``:port`` for loopback; port 0 takes a free one.
            None answers nowhere. There is no password: an address that other machines reach
            shows them topic names, positions and error lines, never content.
    """

    address: str | None = None

    def place(self) -> tuple[str, int] | None:
        """Host and port, None where nothing is to answer.

        Raises:
            SettingsError: no host and port. Fatal.

        Example:
            >>> HealthSettings(address=":8080").place()
            ('127.0.0.1', 8080)
        """
        return None if self.address is None else _host_and_port(self.address, "health.address")


class ConsoleSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The web console of `headrace up` and `headrace demo`.

    Attributes:
        address: ``host:port`` to answer on, or ``:port`` for loopback; port 0 takes a free one.
            ``off`` answers nowhere. It shows device names, features and scores.
        token_file: File whose first line is the token that opens it, 16 characters or more; needed
            for an address that other machines reach.
    """

    address: str = ":0"
    token_file: str | None = None

    def place(self) -> tuple[str, int] | None:
        """Host and port, None where nothing is to answer.

        Raises:
            SettingsError: no host and port. Fatal.
        """
        return None if self.address == "off" else _host_and_port(self.address, "console.address")

    def token(self) -> str | None:
        """The token, read from its file when one is named.

        Raises:
            SettingsError: the file cannot be read. Fatal.
        """
        return None if self.token_file is None else _first_line(self.token_file, "token")


def _names_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0  # reading a port that is none raises
    except ValueError:
        return False


def _host_and_port(address: str, where: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) < 1 << 16):
        raise SettingsError(f"{where} is {address!r}, expected host:port such as 127.0.0.1:8080")
    return host.strip("[]") or "127.0.0.1", int(port)


def _first_line(file: str, what: str) -> str:
    """The first line of a file that holds a secret."""
    try:
        return Path(file).read_text("utf-8").splitlines()[0].strip()
    except (OSError, IndexError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"reading the {what} file {file!r} failed: {error}; "
            f"name a readable file whose first line is the {what}"
        ) from error


class SnapshotSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Copies of checkpoints that outlive the store.

    Attributes:
        url: Where they are kept: a folder, or ``s3://bucket/prefix`` (also ``gs://``, ``az://``),
            which needs the ``snapshots`` extra and takes credentials, region and endpoint from
            the environment as that service's own tools do. None keeps none.
        every_s: Seconds between two snapshots of one partition of a stage. How far back a lost
            store makes it read: telemetry must be kept for longer.
        keep: Most snapshots of one partition of a stage; the older, the further apart they lie, so
            that a replay finds one not much older than what it asks for.
        keep_s: Longest time one is kept, seconds; the newest stays.
        keep_bytes: Most bytes of one partition of a stage; the newest stays.
    """

    url: str | None = None
    every_s: Seconds = 300.0
    keep: Positive = 8
    keep_s: Seconds = 7 * 86_400.0
    keep_bytes: Positive = 1 << 30


class OtlpSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An OpenTelemetry collector that metrics, traces and logs are sent to.

    Attributes:
        url: Where it takes OTLP over HTTP, such as ``http://collector:4318``; needs the ``otlp``
            extra. None sends nowhere.
        every_s: Seconds between two sendings.
        headers_file: File of headers to send along, ``name: value`` a line, for credentials.
    """

    url: str | None = None
    every_s: Seconds = 10.0
    headers_file: str | None = None

    def headers(self) -> dict[str, str]:
        """The headers of `headers_file`.

        Raises:
            SettingsError: it cannot be read. Fatal.
        """
        if self.headers_file is None:
            return {}
        try:
            lines = Path(self.headers_file).read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"reading the headers file {self.headers_file!r} failed: {error}; "
                f"name a readable file of lines 'name: value'"
            ) from error
        pairs = (line.partition(":") for line in lines if ":" in line)
        return {name.strip(): value.strip() for name, _, value in pairs}


class AlertSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who is told of incidents.

    Attributes:
        url: Webhook that gets a POST of JSON for each incident that begins, worsens or ends; None
            tells the log alone.
    """

    url: Annotated[str, Meta(pattern="^https?://[!-~]+$")] | None = None

    def __post_init__(self) -> None:
        """Refuse what would fail with the first alert.

        Raises:
            SettingsError: the URL names no host, or a port that is none. Fatal.
        """
        if self.url is not None and not _names_host(self.url):
            # It is not told: it may hold a secret.
            raise SettingsError(
                "alerts.url names no host or an impossible port, expected a URL such as "
                "https://alerts.example:8443/hook; set HEADRACE_ALERTS"
            )


class PriceSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What things cost.

    Attributes:
        file: TOML file of prices (`schemas.prices`); None tells no cost.
    """

    file: str | None = None


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole tree.

    Attributes:
        bus: The event bus.
        store: The online store.
        worker: Limits of one worker process.
        health: The health endpoints of `headrace up`.
        console: The web console.
        snapshots: Copies of checkpoints that outlive the store.
        otlp: An OpenTelemetry collector.
        alerts: Who is told of incidents.
        prices: What things cost.
    """

    bus: BusSettings = BusSettings()
    store: StoreSettings = StoreSettings()
    worker: WorkerSettings = WorkerSettings()
    health: HealthSettings = HealthSettings()
    console: ConsoleSettings = ConsoleSettings()
    snapshots: SnapshotSettings = SnapshotSettings()
    otlp: OtlpSettings = OtlpSettings()
    alerts: AlertSettings = AlertSettings()
    prices: PriceSettings = PriceSettings()


def load_settings(file: Path | None, environ: Mapping[str, str]) -> Settings:
    """Settings from defaults, then `file`, then the environment.

    Args:
        file: TOML file, or None.
        environ: The environment; only names that begin with ``HEADRACE_`` are looked at.

    Raises:
        SettingsError: a file that cannot be read, an unknown or impossible value. Fatal.

    Example:
        >>> load_settings(None, {"HEADRACE_BUS": "kafka://localhost:9092"}).bus.url
        'kafka://localhost:9092'
    """
    tree = _read(file) if file else {}
    for name, value in environ.items():
        place = _place(name)
        if place is not None:
            section, field = place
            tree.setdefault(section, {})[field] = value
    try:
        return convert(tree, Settings, coerce=True)
    except ValueError as error:
        raise SettingsError(f"settings are not valid: {error}") from error


_SECTIONS: dict[str, type[msgspec.Struct]] = {
    "bus": BusSettings,
    "store": StoreSettings,
    "worker": WorkerSettings,
    "health": HealthSettings,
    "console": ConsoleSettings,
    "snapshots": SnapshotSettings,
    "otlp": OtlpSettings,
    "alerts": AlertSettings,
    "prices": PriceSettings,
}
MAIN_FIELD = {
    "bus": "url",
    "store": "url",
    "health": "address",
    "console": "address",
    "snapshots": "url",
    "otlp": "url",
    "alerts": "url",
    "prices": "file",
}
"""The field that ``HEADRACE_<SECTION>`` alone sets."""

# Read elsewhere, and no part of the tree.
_OTHER = ("HEADRACE_SETTINGS", "HEADRACE_TEST_", "HEADRACE_REQUIRE_", "HEADRACE_INTERNAL_")


def _place(name: str) -> tuple[str, str] | None:
    """Section and field that an environment name sets; None for a name of somebody else."""
    if not name.startswith("HEADRACE_") or name.startswith(_OTHER):
        return None
    section, _, field = name.removeprefix("HEADRACE_").lower().partition("_")
    if section not in _SECTIONS:
        known = [f"HEADRACE_{s.upper()}" for s in _SECTIONS]
        raise SettingsError(f"environment variable {name} is no setting{nearest(name, known)}")
    field = field or MAIN_FIELD.get(section, "")
    fields = _SECTIONS[section].__struct_fields__
    if field not in fields:
        raise SettingsError(
            f"environment variable {name} sets no field of {section!r}{nearest(field, fields)}"
        )
    return section, field


def _read(file: Path) -> dict[str, Any]:
    try:
        tree = tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"reading settings from {str(file)!r} failed: {error}") from error
    for section in ("bus", "store"):
        if "password" in tree.get(section, {}):
            raise SettingsError(
                f"{str(file)!r} holds a password for {section!r}; "
                f"use password_file or HEADRACE_{section.upper()}_PASSWORD"
            )
    return tree
