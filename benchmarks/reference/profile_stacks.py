"""Sampled stacks: read from py-spy's collapsed form, counted, and turned into time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

THREAD = re.compile(r"thread \((?P<id>0x[0-9a-fA-F]+|\d+)\)(?:: .*)?")
FRAME = re.compile(r"(?P<function>.*) \((?P<file>[^()]*?)(?::(?P<line>\d+))?\)")

OTHER = "other"
"""What nothing is known of."""

WAITS = (
    ("select", "selectors.py"),
    ("poll", "selectors.py"),
    ("wait", "threading.py"),
    ("_wait_for_tstate_lock", "threading.py"),
    ("_worker", "concurrent/futures/thread.py"),
)
"""Last part of the name, and file, of calls that put their thread to sleep."""

Samples = Mapping[str, Mapping[str, int]]
"""Thread to label to samples."""


@dataclass(frozen=True)
class Frame:
    """One call of a stack.

    Attributes:
        function: Its qualified name.
        file: Where it is, from its package on: ``aiokafka/client.py``.
    """

    function: str
    file: str

    def __str__(self) -> str:
        return f"{self.function} ({self.file})"


@dataclass(frozen=True)
class Stack:
    """Samples of one thread that found the same calls.

    Attributes:
        thread: Its name in the report.
        frames: From the outermost call to the innermost.
        samples: How often it was found.
    """

    thread: str
    frames: tuple[Frame, ...]
    samples: int


def parse_collapsed(text: str, names: Mapping[int, str]) -> Iterator[Stack]:
    """The stacks of a collapsed profile, one a line; none is left out.

    Args:
        text: ``thread (ID): NAME;outermost;…;innermost COUNT`` lines.
        names: Thread id to name; a thread that is not in it is called by its id.

    Raises:
        ValueError: a line that does not end in a count.

    Example:
        >>> text = "thread (7): T;run (threading.py:975);read (streams/transport/pump.py:40) 3"
        >>> [stack] = parse_collapsed(text, {7: "bus"})
        >>> stack.thread, [str(frame) for frame in stack.frames], stack.samples
        ('bus', ['run (threading.py)', 'read (streams/transport/pump.py)'], 3)
    """
    for line in filter(None, map(str.strip, text.splitlines())):
        calls, _, count = line.rpartition(" ")
        if not count.isdigit():
            raise ValueError("reading a profile failed: a line has no count; use the raw format")
        head, *frames = calls.split(";")
        found = THREAD.fullmatch(head)
        if found is None:
            raise ValueError("reading a profile failed: a line has no thread; sample with threads")
        tid = int(found["id"], 0)
        thread = names.get(tid, f"thread {tid}")
        yield Stack(thread, tuple(map(parse_frame, frames)), int(count))


def parse_frame(text: str) -> Frame:
    """One frame; what has no file keeps its whole text as its function.

    Example:
        >>> parse_frame("_bootstrap_external.<locals>.f (<frozen importlib>:241)").file
        '<frozen importlib>'
        >>> parse_frame("strange")
        Frame(function='strange', file='')
    """
    found = FRAME.fullmatch(text)
    return Frame(text, "") if found is None else Frame(found["function"], found["file"])


def innermost(stack: Stack) -> str:
    """The function that was running; what compiled code does counts for its Python caller."""
    return str(stack.frames[-1]) if stack.frames else "(no Python frame)"


def is_waiting(stack: Stack) -> bool:
    """Whether a thread was found in a call that waits.

    The profiler first asks which threads run and then reads their stacks: one that went to sleep in
    between is found asleep. At a low rate, where work comes in short pieces, that is every fourth
    sample, and its thread's time went into what it did just before.

    Example:
        >>> is_waiting(Stack("bus", (Frame("EpollSelector.select", "selectors.py"),), 1))
        True
        >>> is_waiting(Stack("bus", (Frame("EpollSelector.register", "selectors.py"),), 1))
        False
    """
    if not stack.frames:
        return False
    last = stack.frames[-1]
    return (last.function.rpartition(".")[2], last.file) in WAITS


def samples_by(stacks: Iterable[Stack], label: Callable[[Stack], str]) -> Samples:
    """Samples by thread and label; every sample has one.

    Example:
        >>> f, g = Frame("f", "a.py"), Frame("g", "b.py")
        >>> found = samples_by([Stack("main", (f, g), 3), Stack("main", (g,), 1)], innermost)
        >>> {thread: dict(labels) for thread, labels in found.items()}
        {'main': {'g (b.py)': 4}}
    """
    found: dict[str, Counter[str]] = {}
    for stack in stacks:
        found.setdefault(stack.thread, Counter())[label(stack)] += stack.samples
    return found


def cost_by(samples: Samples, us_by_thread: Mapping[str, float]) -> dict[str, float]:
    """Each label's share of the time that the threads took.

    A thread's time is divided by its own samples: one that waits for a core is sampled, too, and
    takes no time. The time of a thread without samples is `OTHER`, so the sum is that of the
    threads.

    Args:
        samples: Thread to label to samples.
        us_by_thread: Thread to its CPU time, microseconds per event.

    Returns:
        Label to microseconds per event.

    Example:
        >>> cost_by({"main": {"decode": 3, "publish": 1}}, {"main": 2.0, "bus": 0.5})
        {'decode': 1.5, 'publish': 0.5, 'other': 0.5}
    """
    cost: dict[str, float] = {}
    for thread, us in us_by_thread.items():
        found = samples.get(thread) or {OTHER: 1}
        total = sum(found.values())
        for label, count in found.items():
            cost[label] = cost.get(label, 0.0) + us * count / total
    return cost
