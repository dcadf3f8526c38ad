"""What became of a redrive, in lines for people."""

from __future__ import annotations

from collections.abc import Iterator

from headrace.schemas.pipeline import Pipeline
from headrace.schemas.topics import topics_of
from headrace.streams.client.redrive import Left, Outcome


def outcome_lines(outcome: Outcome, pipeline: Pipeline, *, dry: bool) -> Iterator[str]:
    """What was redriven, and one line for each reason why others were left."""
    topics, attempts = topics_of(pipeline), pipeline.delivery.redrive_attempts
    done = "would be redriven" if dry else "redriven"
    yield f"{outcome.redriven} dead letters {done} to {topics.telemetry.name}"
    if outcome.aged:
        yield (
            f"{outcome.aged} of them are older than the allowed lateness of "
            f"{pipeline.input.allowed_lateness_s:g} s: where newer events of the partition went "
            f"before, they end in {topics.late.name}"
        )
    why: dict[Left, str] = {
        "redriven": "were redriven before",
        "attempts": f"were tried {attempts} times; mend them at their source, or raise "
        f"delivery.redrive_attempts",
        "serve": "are SERVE's, which would drop them as served; mend the model and have the "
        "events sent again under new ids",
        "cut": "were over 1 MiB and are kept in part only; have them sent again",
        "tombstone": "had no value, so they can never be events",
        "elsewhere": "came from a topic or partition that the pipeline does not read",
    }
    for reason, count in outcome.left.items():
        yield f"{count} left, they {why[reason]} (such as {outcome.examples[reason]})"
