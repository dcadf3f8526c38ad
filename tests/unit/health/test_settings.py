"""Where the endpoints listen, as it can be written."""

from __future__ import annotations

import pytest

from headrace.schemas.errors import PipelineFileError, SettingsError
from headrace.schemas.pipeline import load_pipeline
from headrace.schemas.settings import HealthSettings, load_settings
from headrace.streams.cli.context import pipeline_file


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        (":8080", ("127.0.0.1", 8080)),
        ("8080", ("127.0.0.1", 8080)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_environment_sets_the_address(address, place):
    """HEADRACE_HEALTH is host and port; without a host it is loopback."""
    settings = load_settings(None, {"HEADRACE_HEALTH": address})

    assert settings.health.place() == place


def test_unset_is_off():
    """Nothing listens unless somebody asked for it."""
    assert load_settings(None, {}).health.place() is None


@pytest.mark.parametrize("address", ["", "host", "host:", "host:65536", "host:-1", "host:٣", "a:b"])
def test_an_impossible_address_is_refused(address):
    """No port, or none that exists."""
    with pytest.raises(SettingsError, match="expected host:port"):
        HealthSettings(address=address).place()


def test_a_section_without_main_field_needs_a_field():
    """HEADRACE_WORKER alone sets nothing, and says so."""
    with pytest.raises(SettingsError, match="HEADRACE_WORKER sets no field"):
        load_settings(None, {"HEADRACE_WORKER": "x"})


def test_restart_comes_after_stuck(tmp_path):
    """A worker is not started again before it counts as stuck."""
    text = pipeline_file("hosts").read_text("utf-8")
    file = tmp_path / "p.toml"
    file.write_text(f"{text}\n[delivery]\nstuck_restart_s = 10\n", "utf-8")

    with pytest.raises(PipelineFileError, match="stuck_restart_s is 10 s, expected at least"):
        load_pipeline(file)
