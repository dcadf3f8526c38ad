"""Checkpoints on a Redis-compatible server, each behind a claim that only ever rises.

The keys of one checkpoint share the hash tag ``{pipeline/key}``: ``:head`` (claim, position, meta,
which state counts, how many fields it has) and two states, ``:a`` and ``:b``. Deltas go to the one
that counts; a partition written whole goes to the other one, piece by piece, and then they switch.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from headrace.feature_store.pieces import FIELDS_PER_PIECE, pieces
from headrace.feature_store.redis_store import Argument
from headrace.feature_store.scripts import (
    CHECKPOINT_APPEND,
    CHECKPOINT_BEGIN,
    CHECKPOINT_SWITCH,
    CHECKPOINT_WRITE,
    Script,
)
from headrace.feature_store.wire import Wire, run
from headrace.schemas.errors import StoreUnavailableError
from headrace.schemas.protocols import CheckpointMeta, Fields, Snapshot, WriteOutcome

_log = logging.getLogger(__name__)

_READ_TRIES = 5


class RedisCheckpointStore:
    """`CheckpointStore` on a wire; `pipeline` begins every key."""

    def __init__(self, wire: Wire, pipeline: str) -> None:
        self._wire = wire
        self._pipeline = pipeline

    async def claim(self, key: str) -> int:
        """Raise the claim on `key` by one and return it: every lower claim is refused from now.

        Delivery: after an error the claim may have risen; claiming again is right.
        """
        answer = await self._wire.ask([(b"HINCRBY", self._checkpoint_keys(key)[0], b"claim", 1)])
        return int(answer[0])

    async def held(self, key: str) -> tuple[int, int | None]:
        """The claim now on `key` (0: never claimed) and its position R (None: no checkpoint)."""
        command = (b"HMGET", self._checkpoint_keys(key)[0], b"claim", b"position")
        claim, position = (await self._wire.ask([command]))[0]
        return int(claim or 0), None if position is None else int(position)

    async def write(
        self,
        key: str,
        *,
        claim: int,
        base: int,
        meta: CheckpointMeta,
        changed: Fields,
        dropped: Iterable[bytes],
    ) -> WriteOutcome:
        """Compare and set: `changed` and `dropped` fields and `meta`, atomically.

        A field in both ends up set. Where there is no checkpoint yet, or its state is gone while
        its head is there, the answer is ROLLED_BACK: a delta needs what it builds on.

        Raises:
            StoreUnavailableError: retryable; the write may have taken effect, and writing the same
                again is right. StoreRefusedError, FatalError: fatal.

        Delivery: at-least-once and idempotent under one claim.
        """
        gone = list(dropped)
        arguments: list[Argument] = [
            claim, base, meta.position, msgspec.msgpack.encode(meta), len(gone), *gone,
            *itertools.chain.from_iterable(changed),
        ]  # fmt: skip
        answer = await self._call(CHECKPOINT_WRITE, key, arguments)
        return WriteOutcome(answer.decode())

    async def rewrite(
        self, key: str, *, claim: int, meta: CheckpointMeta, fields: Fields
    ) -> WriteOutcome:
        """Write the partition whole, in pieces, then switch to it at once. Never ROLLED_BACK.

        Until the switch the checkpoint before it stands; what an interrupted rewrite left behind
        is removed by the next one.

        Raises:
            StoreUnavailableError: retryable, from the start; also when another rewrite under the
                same claim took over. StoreRefusedError, FatalError: fatal.
        """
        number = await self._call(CHECKPOINT_BEGIN, key, [claim])
        if number is None:
            return WriteOutcome.NOT_OWNER
        last: list[Argument] = [claim, number, meta.position, msgspec.msgpack.encode(meta)]
        steps: Iterator[tuple[Script, list[Argument]]] = itertools.chain(
            ((CHECKPOINT_APPEND, [claim, number, *piece]) for piece in pieces(fields)),
            [(CHECKPOINT_SWITCH, last)],
        )
        for script, arguments in steps:
            answer = await self._call(script, key, arguments)
            if answer == b"not_owner":
                return WriteOutcome.NOT_OWNER
            if answer == b"superseded":
                raise StoreUnavailableError(
                    f"rewriting checkpoint {key!r} at {self._wire.place} was overtaken by another "
                    f"rewrite or a restart of the store; write it again"
                )
        return WriteOutcome.WRITTEN

    async def read(self, key: str) -> Snapshot | None:
        """The checkpoint, or None where there is none or it cannot be read as one (logged).

        Reads piece by piece and checks that nothing changed meanwhile.

        Raises:
            StoreUnavailableError: retryable; also when it changed during each of several tries.
            StoreRefusedError, FatalError: fatal.
        """
        head = await self._head(key)
        for _ in range(_READ_TRIES):
            if head[1] is None:
                return None
            state = self._checkpoint_keys(key)[2 if head[0] == b"b" else 1]
            fields = await self._state(state, int(head[3] or 0))
            before, head = head, await self._head(key)
            if head == before:
                return self._snapshot(key, head, fields)
        raise StoreUnavailableError(
            f"reading checkpoint {key!r} at {self._wire.place} met a change in each of "
            f"{_READ_TRIES} tries; another worker still writes it"
        )

    async def _head(self, key: str) -> list[bytes | None]:
        command = (b"HMGET", self._checkpoint_keys(key)[0], b"live", b"position", b"meta", b"rows")
        head: list[bytes | None] = (await self._wire.ask([command]))[0]
        return head

    async def _state(self, state: bytes, count: int) -> dict[bytes, bytes]:
        if count <= FIELDS_PER_PIECE:
            return _pairs((await self._wire.ask([(b"HGETALL", state)]))[0])
        fields: dict[bytes, bytes] = {}
        cursor: bytes = b"0"
        while True:
            command = (b"HSCAN", state, cursor, b"COUNT", FIELDS_PER_PIECE)
            cursor, flat = (await self._wire.ask([command]))[0]
            fields.update(_pairs(flat))
            if cursor == b"0":
                return fields

    def _snapshot(
        self, key: str, head: list[bytes | None], fields: dict[bytes, bytes]
    ) -> Snapshot | None:
        _, position, packed, count = head
        try:
            meta = msgspec.msgpack.decode(packed or b"", type=CheckpointMeta)
            reason = None if meta.position == int(position or -1) else "two positions"
        except msgspec.DecodeError as error:
            reason = f"no meta of this version: {error}"
        if reason is None and len(fields) != int(count or 0):
            reason = f"{len(fields)} fields, expected {int(count or 0)}"
        if reason is not None:
            _log.warning(
                "checkpoint %r at %s is set aside: it has %s", key, self._wire.place, reason
            )
            return None
        return Snapshot(meta, list(fields.items()))

    async def _call(self, script: Script, key: str, arguments: list[Argument]) -> Any:
        return (await self._wire.ask([run(script, self._checkpoint_keys(key), arguments)]))[0]

    def _checkpoint_keys(self, key: str) -> tuple[bytes, bytes, bytes]:
        tag = f"{{{self._pipeline}/{key}}}"
        return f"{tag}:head".encode(), f"{tag}:a".encode(), f"{tag}:b".encode()


def _pairs(flat: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
