"""The command `headrace`: its table of commands, and how every failure becomes one line."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

from headrace.schemas.errors import FatalError, HeadraceError, RetryableError
from headrace.streams.cli.lazy import Lazy, LazyGroup
from headrace.streams.logs import log_to_stderr

FAILED, MISUSED, TEMPORARY, INTERRUPTED = 1, 2, 75, 130
"""Exit codes: 75 is EX_TEMPFAIL of sysexits.h, 130 is what shells give an interrupted command."""

_AT = "headrace.streams.cli."
COMMANDS = {
    "demo": Lazy(_AT + "demo:demo", "Run the whole path on this machine's own telemetry."),
    "up": Lazy(_AT + "up:up", "Run a pipeline on the bus and store of the settings."),
    "produce": Lazy(_AT + "produce:produce", "Send telemetry: this machine's, a file, a fleet."),
    "consume": Lazy(_AT + "consume:consume", "Print predictions, summaries or dead letters."),
    "replay": Lazy(_AT + "replay:replay", "The past of a topic: rows, tables, events once more."),
    "sql": Lazy(_AT + "sql:sql", "SQL over live topics and exports."),
    "deadletter": Lazy(_AT + "deadletter:deadletter", "List, show and redrive dead letters."),
    "features": Lazy(_AT + "features:features", "Read the online feature store."),
    "explain": Lazy(_AT + "explain:command", "Where a prediction comes from, where it went."),
    "topics": Lazy(
        _AT + "topics:topics", "List, plan, create and describe topics; mend transactions."
    ),
    "model": Lazy(_AT + "model:model", "Check the model of a pipeline."),
    "kafka": Lazy(_AT + "kafka:kafka", "Run a durable Kafka on this machine."),
    "top": Lazy(_AT + "top:top", "Watch a running up: rates, lag, latency, budgets, drift."),
    "observe": Lazy(_AT + "observe:observe", "What was seen: latency, budgets, drift, incidents."),
    "drill": Lazy(_AT + "drill:drill", "Kill, pause and lose things under load; count the loss."),
    "doctor": Lazy(_AT + "doctor:doctor", "Check everything and say how to mend it."),
}


class Headrace(LazyGroup):
    """The root command: no failure of any kind prints more than one line.

    ``HEADRACE_INTERNAL_DEBUG=1`` lets the traceback of any failure through.
    """

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line and exit: 0 done, 1 failed, 2 set up or used wrongly, 75 try again.

        With ``--json`` among `args`, a failure is also the last line of stdout, as
        ``{"error": {"code": …, "message": …}}``.
        """
        args = list(sys.argv[1:] if args is None else args)
        log_to_stderr()
        try:
            done = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.exceptions.Abort:
            sys.exit(INTERRUPTED)
        # Every failure ends here: this is the boundary of the process.
        except Exception as error:  # noqa: BLE001
            if os.environ.get("HEADRACE_INTERNAL_DEBUG") == "1":
                traceback.print_exception(error)
            exit_code, code, message = explain(error)
            click.echo(f"headrace: {message}", err=True)
            if "--json" in args:
                click.echo(json.dumps({"error": {"code": code, "message": message}}))
            sys.exit(exit_code)
        sys.exit(done if isinstance(done, int) else 0)


def explain(error: Exception) -> tuple[int, str, str]:
    """Exit code, error code and the one line of any failure.

    The text of an error that is not ours may quote a record, so only its class and place are
    given.
    """
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path.strip() if error.ctx else "headrace"
        return MISUSED, "usage", f"{_line(error.format_message())}; see {command} --help"
    if isinstance(error, click.ClickException):
        return MISUSED, "usage", _line(error.format_message())
    if isinstance(error, HeadraceError):
        exit_code = (
            MISUSED
            if isinstance(error, FatalError)
            else TEMPORARY
            if isinstance(error, RetryableError)
            else FAILED
        )
        return exit_code, error.code, _line(str(error))
    what = type(error).__name__
    if isinstance(error, ImportError) and error.name:
        what += f" of {error.name!r}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if os.path.exists(f.filename)]
    if frames:
        what += f" at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}"
    return (
        FAILED,
        "unexpected",
        f"unexpected {what}; run it again with HEADRACE_INTERNAL_DEBUG=1 for the traceback",
    )


def _line(text: str) -> str:
    """`text` on one line, without its full stop."""
    return " ".join(text.split()).rstrip(".")


@click.command(
    cls=Headrace,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Settings: ./headrace.toml or HEADRACE_SETTINGS, then HEADRACE_* (headrace doctor).",
)
@click.version_option(package_name="headrace", message="headrace %(version)s")
def main() -> None:
    """A streaming, real-time AI pipeline on an event bus."""
