"""SQL over topics and exports: the only door to DuckDB, which comes with the `sql` extra.

A topic that a query names is first exported to a folder of its own, which DuckDB then scans: memory
stays bounded however long the log is, and a self-join reads the same rows on both sides.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from headrace.schemas.errors import MissingExtraError, SettingsError
from headrace.streams.client.clock import wall_clock
from headrace.streams.replay.ask import Ask
from headrace.streams.replay.folder import Folder, Report
from headrace.streams.replay.pool import begin_export, run_export
from headrace.streams.replay.ranges import Wanted
from headrace.streams.replay.throttle import GENTLE_BYTES_PER_S
from headrace.streams.replay.worker import Order

ROWS_AT_ONCE = 1000

_APART = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", re.DOTALL)  # literals and comments
_TABLE = re.compile(r'(?:\bfrom|\bjoin|,)\s*"?(\w+)"?', re.IGNORECASE)


def _duckdb() -> Any:
    try:
        import duckdb  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError as error:
        raise MissingExtraError(package="duckdb", extra="sql", needed_for="SQL") from error
    return duckdb


class Answer:
    """The rows of one query, in turn.

    Attributes:
        names: Column names.
    """

    def __init__(self, result: Any) -> None:
        self._result = result
        self.names = [column[0] for column in result.description or ()]

    def rows(self) -> Any:
        """Each row as a tuple.

        Raises:
            SettingsError: the query failed on a row. Fatal.
        """
        while found := _run(lambda: self._result.fetchmany(ROWS_AT_ONCE)):
            yield from found


class Database:
    """Queries over the topics of a pipeline and over exports.

    Args:
        ask: The bus and the pipeline; its topic is not looked at.
        roles: Table name to topic or role: what a query may name.
        exports: Table name to the folder of an export.
        wanted: Rows of every topic that is read.
        full_speed: Read topics as fast as it goes.

    Raises:
        MissingExtraError: DuckDB is not installed. SettingsError: an export is none, or not
            whole. Both fatal.
    """

    def __init__(
        self,
        ask: Ask,
        roles: Mapping[str, str],
        exports: Mapping[str, Path],
        wanted: Wanted,
        *,
        full_speed: bool = False,
    ) -> None:
        self._ask, self._roles, self._wanted = ask, dict(roles), wanted
        self._full_speed = full_speed
        self._library = _duckdb()
        self._connection = self._library.connect()
        self._run_sql("SET TimeZone = 'UTC'")
        self._temporary = Path(mkdtemp(prefix="headrace-sql-"))
        self.reports: dict[str, Report] = {}
        for name, path in exports.items():
            self._add(name, path)

    def close(self) -> None:
        """Forget what was read."""
        self._connection.close()
        shutil.rmtree(self._temporary, ignore_errors=True)

    def needed(self, query: str) -> list[str]:
        """Topics that a query names and that are not read yet."""
        named = tables_named(query)
        return [name for name in self._roles if name in named and name not in self.reports]

    async def read(self, name: str) -> Report:
        """Read a topic, so that a query may name it; what it lacks is in the report.

        Raises:
            HeadraceError: what the replay raised.
        """
        folder = self._temporary / name
        order = Order(
            ask=_asking(self._ask, self._roles[name]),
            folder=str(folder),
            bytes_per_s=None if self._full_speed else GENTLE_BYTES_PER_S,
        )
        now_ms = round(wall_clock() * 1000)
        sheet = await begin_export(order, self._wanted, "parquet", now_ms=now_ms)
        await run_export(order, sheet)
        return self._add(name, folder)

    def refresh(self) -> None:
        """Read topics anew at the next query."""
        for name in set(self.reports) & set(self._roles):
            self._run_sql(f"DROP VIEW {_quoted(name)}")
            del self.reports[name]
            shutil.rmtree(self._temporary / name, ignore_errors=True)

    def ask(self, query: str) -> Answer:
        """Run one query; the topics it names were read.

        Raises:
            SettingsError: it failed, in DuckDB's words. Fatal.
        """
        return Answer(self._run_sql(query))

    def write(self, query: str, file: Path) -> None:
        """Write the rows of a query to a Parquet or CSV file, by its ending.

        Raises:
            SettingsError: it failed. Fatal.
        """
        forms = {".parquet": "FORMAT parquet", ".csv": "FORMAT csv, HEADER"}
        if file.suffix not in forms:
            raise SettingsError(
                f"file {str(file)!r} ends in {file.suffix!r}, expected .parquet or .csv; rename it"
            )
        inner = query.strip().rstrip(";")
        self._run_sql(f"COPY ({inner}) TO {_text(str(file))} ({forms[file.suffix]})")

    def _add(self, name: str, path: Path) -> Report:
        folder = Folder(path)
        report, sheet = folder.report(), folder.sheet()
        if report is None or sheet is None or sheet.format != "parquet":
            raise SettingsError(
                f"folder {str(path)!r} holds no whole export in Parquet, expected one to query; "
                f"make it with headrace replay"
            )
        folder.check_files(sheet, report)
        if report.files:
            folders = "p*" if sheet.day_of is None else f"{sheet.day_key}=*"
            files = f"read_parquet({_text(str(path / folders / '*.parquet'))})"
        else:
            empty = sheet.arrow_schema.empty_table()
            self._connection.register(f"empty {name}", empty)
            files = _quoted(f"empty {name}")
        self._run_sql(f"CREATE VIEW {_quoted(name)} AS FROM {files}")
        self.reports[name] = report
        return report

    def _run_sql(self, text: str) -> Any:
        return _run(lambda: self._connection.execute(text))


def tables_named(query: str) -> set[str]:
    r"""What a query may mean by a table: DuckDB itself can tell only once the tables are there.

    Example:
        >>> sorted(tables_named('from late l join "features" using (id) where a = \'from x\''))
        ['features', 'late']
    """
    return set(_TABLE.findall(_APART.sub(" ", query)))


def _run(work: Any) -> Any:
    """What `work` returns; DuckDB's errors as ours.

    Raises:
        SettingsError: the query is at fault, or what it reads. Fatal.
    """
    library = _duckdb()
    try:
        return work()
    except library.Error as error:
        reason = " ".join(str(error).split("\n\n")[0].split())
        raise SettingsError(f"the query failed: {reason}") from error


def _asking(ask: Ask, topic: str) -> Ask:
    return Ask(bus=ask.bus, topic=topic, pipeline=ask.pipeline, raw=ask.raw)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
