"""The demo's terminal view: rates, latency, devices, model, and raw against upstream bytes."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from headrace.streams.cli.ledger import DeviceView, Ledger, shown_ms

_BARS = " ▁▂▃▄▅▆▇█"
TOP = 8


class LiveView:
    """Redraws the ledger in place.

    Args:
        ledger: What to show.
        title: Pipeline and bus.
        sent: Events sent so far and their bytes.
        elapsed_s: Seconds since the first event.
    """

    def __init__(
        self,
        ledger: Ledger,
        title: str,
        sent: Callable[[], tuple[int, int]],
        elapsed_s: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._title = title
        self._sent = sent
        self._elapsed_s = elapsed_s
        self.note = ""
        self._live = Live(self.draw(), console=Console(), refresh_per_second=8, transient=False)

    def __enter__(self) -> LiveView:
        self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.update(self.draw())
        self._live.__exit__(None, None, None)

    def refresh(self) -> None:
        """Show the ledger as it is now."""
        self._live.update(self.draw())

    def draw(self) -> Panel:
        """The whole view."""
        parts: list[RenderableType] = [self._flow(), self._devices()]
        if self.note:
            parts.append(Text(self.note, style="yellow"))
        return Panel(Group(*parts), title=self._title, subtitle="Ctrl-C ends it")

    def _flow(self) -> Table:
        ledger, (events, raw) = self._ledger, self._sent()
        seconds = max(self._elapsed_s(), 1e-3)
        lag = {name: status.lag for name, status in ledger.statuses.items()}
        p50, p99, p999 = map(shown_ms, ledger.percentiles().values())
        upstream = ledger.statuses["serve"].sent_upstream_bytes if "serve" in ledger.statuses else 0
        serve = ledger.statuses.get("serve")
        cache = "off" if serve is None or serve.cache is None else f"{serve.cache:.0%} hits"
        table = Table.grid(padding=(0, 3))
        table.add_row(
            f"events in [b]{events:,}[/b] ({events / seconds:,.0f}/s)",
            f"predictions [b]{ledger.predictions:,}[/b]",
            f"flagged [b]{ledger.flagged:,}[/b]",
            f"dead {ledger.count('dead')}  late {ledger.count('late')}",
        )
        table.add_row(
            f"latency ms  p50 [b]{p50}[/b]  p99 [b]{p99}[/b]  p99.9 {p999}",
            f"model {ledger.model or '…'}",
            f"cache {cache}",
            f"lag {sum(lag.values())}",
        )
        share = f"{upstream / raw:.2%}" if raw else "…"
        table.add_row(
            f"raw {_size(raw)} stay here",
            f"upstream {_size(upstream)} ({share})",
            f"workers {sum(s.rss_mb for s in ledger.statuses.values()):.0f} MB",
            f"cpu {sum(s.cpu_s for s in ledger.statuses.values()):.1f} s",
        )
        return table

    def _devices(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for name in ("device", "score", "recent", "flagged"):
            table.add_column(name, justify="right" if name in ("score", "flagged") else "left")
        for name, device in self._ledger.top(TOP):
            style = "bold red" if device.score >= 0.5 else ""
            recent = sparkline(device)
            table.add_row(name, f"{device.score:.3f}", recent, str(device.flagged), style=style)
        return table


def sparkline(device: DeviceView) -> str:
    """The device's newest scores, 0 to 1, as a line of bars.

    Example:
        >>> from collections import deque
        >>> sparkline(DeviceView(scores=deque([0.0, 0.5, 1.0])))
        ' ▄█'
    """
    top = len(_BARS) - 1
    return "".join(_BARS[min(top, max(0, round(score * top)))] for score in device.scores)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
