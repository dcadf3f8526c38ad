"""Where the time goes: samples are read whole, mapped to parts that exist, and sum to the time."""

import ast
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import headrace.streams

ROOT = Path(headrace.streams.__file__).parents[1]
FOLDER = Path(__file__).parents[3] / "benchmarks" / "reference"
SHARED = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

WORD = st.text(st.sampled_from("abcXYZ_.<>"), min_size=1, max_size=8)
FRAMES = st.lists(st.tuples(WORD, WORD, st.integers(1, 999)), max_size=4)
LINES = st.lists(st.tuples(st.integers(1, 5), FRAMES, st.integers(1, 100)), max_size=12)


def collapsed(lines):
    """Lines as py-spy writes them."""
    return "\n".join(
        ";".join([f"thread ({tid}): T", *(f"{f} ({file}:{line})" for f, file, line in frames)])
        + f" {count}"
        for tid, frames, count in lines
    )


@SHARED
@given(LINES)
def test_what_is_written_is_read(reference, lines):
    """No sample, call or thread is lost between the profile's text and its stacks."""
    stacks = list(reference("profile_stacks").parse_collapsed(collapsed(lines), {1: "main"}))
    assert [stack.samples for stack in stacks] == [count for _, _, count in lines]
    assert [[(frame.function, frame.file) for frame in stack.frames] for stack in stacks] == [
        [(function, file) for function, file, _ in frames] for _, frames, _ in lines
    ]
    expected = ["main" if tid == 1 else f"thread {tid}" for tid, _, _ in lines]
    assert [stack.thread for stack in stacks] == expected


@SHARED
@given(LINES, st.dictionaries(st.sampled_from(["main", "thread 2", "idle"]), st.floats(0, 1e3)))
def test_the_parts_sum_to_the_threads(reference, lines, us):
    """However the samples lie, the parts' times are the threads' times, and none is negative."""
    stacks_of, parts = reference("profile_stacks"), reference("profile_parts")
    stacks = list(stacks_of.parse_collapsed(collapsed(lines), {1: "main"}))
    samples = stacks_of.samples_by(stacks, parts.part_of)
    assert sum(map(Counter.total, samples.values())) == sum(count for _, _, count in lines)
    cost = stacks_of.cost_by(samples, us)
    assert sum(cost.values()) == pytest.approx(sum(us.values()))
    assert all(value >= 0 for value in cost.values())
    assert dict(parts.in_order("enrich", cost)) == cost


@pytest.mark.parametrize(
    "text", ["main;f (a.py:1) 3", "thread (7): T;f (a.py:1)", "thread (7): T;f (a.py:1) x"]
)
def test_another_format_is_refused(reference, text):
    """A profile without threads or counts is no profile of ours."""
    with pytest.raises(ValueError, match="reading a profile failed"):
        list(reference("profile_stacks").parse_collapsed(text, {}))


@pytest.mark.parametrize(
    ("frames", "part"),
    [
        (["asyncio/events.py:Handle._run", "enrichers/decode.py:Decoder._ids"], "decode"),
        (["streams/delivery/lane.py:Lane._process", "numpy/lib/x.py:unique"], "delivery"),
        (["streams/delivery/lane.py:Lane._process", "streams/transport/publish.py:f",
          "aiokafka/producer/p.py:send", "asyncio/selector_events.py:write"], "publish"),
        (["streams/delivery/lane.py:Lane._c", "enrichers/state.py:EnrichDelta.changed",
          "enrichers/dedupe.py:SeenIds.changed"], "checkpoint"),
        (["streams/agents/serve.py:ServeAgent.process", "schemas/block.py:FeatureBlock.decode"],
         "agent"),
        (["streams/agents/serve.py:ServeAgent._block", "schemas/block.py:FeatureBlock.decode"],
         "decode block"),
        (["asyncio/base_events.py:_run_once", "selectors.py:_key_from_fd"], "event loop"),
        (["asyncio/events.py:Handle._run", "aiokafka/conn.py:_read"], "bus client"),
        (["threading.py:Thread.run"], "other"),
        ([], "other"),
    ],
)  # fmt: skip
def test_a_stack_belongs_to_its_innermost_known_call(reference, frames, part):
    """Libraries count for whoever called them; the loop only for what nobody of ours called."""
    stacks = reference("profile_stacks")
    calls = tuple(stacks.Frame(*reversed(frame.split(":"))) for frame in frames)
    assert reference("profile_parts").part_of(stacks.Stack("main", calls, 1)) == part


def begins(file: Path, function: str) -> bool:
    """Whether a function, method or class of this qualified name, or beginning, is in a file."""

    def names(node, prefix=""):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield prefix + child.name
                yield from names(child, f"{prefix}{child.name}.")

    return any(name.startswith(function) for name in names(ast.parse(file.read_text("utf-8"))))


def gone(rows) -> list[str]:
    """Rows of the table that name nothing of ours, or of an installed package or the library."""
    places = [ROOT, *map(Path, sys.path), Path(os.__file__).parent]
    bad = []
    for path, function, part in rows:
        found = next((place / path for place in places if (place / path).exists()), None)
        if found is None or (function and not begins(found, function)):
            bad.append(f"{path} {function} ({part})")
    return bad


def test_the_table_names_what_there_is(reference):
    """Code that moves takes its row along, or its time would silently be somebody else's."""
    parts = reference("profile_parts")
    assert gone([*parts.PARTS, *parts.BEHIND]) == []
    assert gone([("enrichers/decode.py", "Decoder.fly", "x"), ("nowhere/", "", "x")]) == [
        "enrichers/decode.py Decoder.fly (x)",
        "nowhere/  (x)",
    ]


def test_every_part_has_its_place(reference):
    """The report knows the order of every part that the table can name."""
    parts = reference("profile_parts")
    named = {part for _, _, part in (*parts.PARTS, *parts.BEHIND)}
    assert named - {part for order in parts.ORDER.values() for part in order} == set()


def test_the_kernel_is_told_the_threads_names(reference):
    """A thread of the worker is found under its own name, the first one as the main thread."""
    threads, worker = reference("profile_threads"), reference("profile_worker")
    found, begun, go = [], threading.Event(), threading.Event()

    def work():
        begun.set()
        go.wait()

    threading.setprofile(worker.tell_kernel)
    try:
        thread = threading.Thread(target=work, name="inference_0")
        thread.start()
        begun.wait()  # a thread is called started before the hook has seen it
    finally:
        threading.setprofile(None)
    try:
        found = threads.thread_names(os.getpid())
    finally:
        go.set()
        thread.join()
    assert found[thread.native_id] == "inference"
    assert found[os.getpid()] == "main"


def test_cpu_of_a_thread_is_its_own(reference):
    """What this thread burns is counted as the main thread's."""
    threads = reference("profile_threads")
    before = threads.cpu_by_thread(os.getpid())
    while threads.spent(before, threads.cpu_by_thread(os.getpid()))["main"].total_s < 0.05:
        sum(range(10_000))
    assert threads.cpu_by_thread(os.getpid())["main"].total_s >= 0.05


def run_of(reference, stacks=()):
    """Two seconds of a stage at a million events."""
    cpu = reference("profile_threads").Cpu
    used = {"main": cpu(1.5, 0.5), "bus": cpu(0.5, 0.0)}
    return reference("profile_stage").StageRun("serve", 1_000_000, 2.0, used, list(stacks))


def test_the_report_shows_everything(reference):
    """Parts and threads sum to the whole, and what is unknown has its line."""
    stacks = reference("profile_stacks")
    score = stacks.Frame("Session.run", "serving/session.py")
    sampled = run_of(
        reference,
        [stacks.Stack("main", (score,), 3), stacks.Stack("main", (), 1),
         stacks.Stack("bus", (stacks.Frame("EpollSelector.select", "selectors.py"),), 7)],
    )  # fmt: skip
    report = reference("profile_report")
    found = report.figures(run_of(reference), sampled, top=1)
    assert found["us_cpu_per_event"] == 2.5
    assert found["events_per_s"] == 500_000
    assert found["parts"] == {"score": 1.5, "other": 1.0}
    assert (found["samples"], found["waiting"]) == (4, 7)
    assert found["functions"] == {"Session.run (serving/session.py)": 1.5}
    page = report.text("serve", found)
    assert "  1.50   60.0  score\n" in page
    assert "  1.00   40.0  other\n" in page
    assert "  2.00   80.0  main (user 1.50, system 0.50)\n" in page


def test_a_stage_without_samples_is_no_profile(reference):
    """A run that ended before the profiler looked is not shown as one that did nothing."""
    with pytest.raises(SystemExit, match="before it was sampled"):
        reference("profile_report").figures(run_of(reference), run_of(reference), top=1)


def test_the_run_in_the_middle_counts(reference):
    """Of several runs the figures are one run's, so that its threads sum to its whole."""
    cost, threads = reference("profile_cost"), reference("profile_threads")
    stage_run = reference("profile_stage").StageRun
    runs = [stage_run("serve", 100, 1.0, {"main": threads.Cpu(s, 0.0)}) for s in (3.0, 1.0, 2.0)]
    assert cost.median_run(runs) is runs[2]
    assert cost.median_run(runs[:2]) is runs[1]


FINDS = "thread (%d): MainThread;<module> (a.py:1);f (enrichers/decode.py:2) 5"
SAMPLES = f"""#!{sys.executable}
import signal, sys
out = sys.argv[sys.argv.index("--output") + 1]
pid = int(sys.argv[sys.argv.index("--pid") + 1])
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
print("py-spy> Sampling process 500 times a second.", flush=True)
signal.sigwait([signal.SIGINT])
open(out, "w").write({FINDS!r} % pid)
print("py-spy> Wrote raw flamegraph data. Samples: 5 Errors: 2")
"""
REFUSES = "#!/bin/sh\necho 'Error: Permission Denied'\nexit 1\n"


@pytest.fixture
def sampler(reference, monkeypatch, tmp_path):
    """A sampler of a process of its own, with a program in the profiler's place."""
    module = reference("profile_sampler")
    program = tmp_path / "profile" / "bin" / "py-spy"
    program.parent.mkdir(parents=True)
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    monkeypatch.setattr(module, "prepare", lambda envs: None)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as watched:
        made = []

        def make(text):
            program.write_text(text, "utf-8")
            program.chmod(0o755)
            made.append(module.Sampler(watched.pid, tmp_path / "found.collapsed", hz=500))
            return made[0]

        yield make
        for one in made:
            one.kill()
        watched.send_signal(signal.SIGTERM)


async def test_samples_come_when_the_sampler_stops(sampler):
    """It is attached when `start` returns, and its threads have the report's names."""
    one = sampler(SAMPLES)
    await one.start()
    [stack] = one.stop()
    assert (stack.thread, stack.frames[-1].file, stack.samples) == (
        "main",
        "enrichers/decode.py",
        5,
    )


async def test_a_profiler_that_may_not_look_says_so(sampler):
    """One line: what was tried, what it said, what to do."""
    with pytest.raises(SystemExit, match=r"sampling process \d+ failed: .*Denied; allow ptrace"):
        await sampler(REFUSES).start()
