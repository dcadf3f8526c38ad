"""`headrace replay`: what is used wrongly is one line that says how."""

from __future__ import annotations

import pytest

from headrace.streams.cli.main import main


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            [],
            "which topic? name a role such as predictions, or a topic; see ",
        ),
        (["telemetry", "--group", "g"], "--group shares a folder; name it with --out"),
        (["telemetry", "--into", "t", "-o", "x"], "--out and --group files; choose one"),
        (["telemetry", "--rate", "5", "--full-speed"], "exclude each other"),
        (["telemetry", "--offsets", "0:9-3x"], "not understood"),
        (["telemetry", "--from", "yesterday"], "neither an age such as 2h nor a time"),
        (["predictons"], "did you mean 'predictions'"),
    ],
)
def test_wrong_use_is_one_line(
    args: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2, before anything connects."""
    monkeypatch.setenv("HEADRACE_BUS", "kafka://127.0.0.1:1")
    monkeypatch.setattr("os.nice", lambda _: 0)
    with pytest.raises(SystemExit) as ended:
        main(["replay", *args])
    err = capsys.readouterr().err

    assert ended.value.code == 2
    assert said in err
    assert err.count("\n") == 1
