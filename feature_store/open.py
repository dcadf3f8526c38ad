"""Open the store that the settings name.

An ACL user needs the keys ``{<pipeline>/*`` and: ping, evalsha, eval, hget, hset, hsetex, hdel,
hlen, hmget, hgetall, hscan, hincrby, hrandfield, pexpire, pttl, persist, time, unlink, and, to be
served well and told what is wrong, command|info and info; on a cluster also cluster|slots.
"""

from __future__ import annotations

from headrace.feature_store.checkpoint import RedisCheckpointStore
from headrace.feature_store.cluster import ClusterWire
from headrace.feature_store.online import RedisOnlineStore
from headrace.feature_store.redis_store import address_of, server_at
from headrace.feature_store.store import ServerInfo, Store
from headrace.feature_store.wire import SingleWire, Wire
from headrace.schemas.errors import StoreRefusedError
from headrace.schemas.settings import StoreSettings


class RedisStore(RedisOnlineStore, RedisCheckpointStore):
    """`Store` on any Redis-compatible server or cluster."""

    def __init__(self, wire: Wire, pipeline: str, *, expires_fields: bool) -> None:
        RedisOnlineStore.__init__(self, wire, pipeline, expires_fields=expires_fields)
        RedisCheckpointStore.__init__(self, wire, pipeline)

    async def ping(self) -> None:
        """See `Store`."""
        await self._wire.ask_each((b"PING",))

    async def server_info(self) -> ServerInfo:
        """See `Store`."""
        try:
            answers = await self._wire.ask_each((b"INFO",))
        except StoreRefusedError as error:
            return ServerInfo(f"a store at {self._wire.place}", (f"it does not say more: {error}",))
        return _info(self._wire.place, [_facts(answer) for answer in answers])

    async def close(self) -> None:
        """See `Store`."""
        await self._wire.close()


async def open_store(settings: StoreSettings, pipeline: str) -> Store:
    """The store at `settings.url`, reached and checked once.

    Args:
        settings: Where it is and who we are.
        pipeline: Pipeline name, which begins every key.

    Raises:
        StoreUnavailableError: it does not answer. Retryable.
        StoreRefusedError: credentials, certificate or rights. Fatal.
        SettingsError: a URL or password file that cannot be used. Fatal.
    """
    address = address_of(settings)
    wire: Wire
    if address.cluster:
        wire = ClusterWire(
            address.place, address.nodes, lambda node: server_at(settings, address, node)
        )
    else:
        node = address.nodes[0] if address.nodes else None
        wire = SingleWire(server_at(settings, address, node))
    try:
        await wire.ask_each((b"PING",))
        return RedisStore(wire, pipeline, expires_fields=await _expires_fields(wire))
    except BaseException:
        await wire.close()
        raise


async def _expires_fields(wire: Wire) -> bool:
    """Whether every server has HSETEX; taken for no where we may not ask."""
    try:
        answers = await wire.ask_each((b"COMMAND", b"INFO", b"HSETEX"))
    except StoreRefusedError:
        return False
    return all(answer and answer[0] for answer in answers)


def _facts(info: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in info.decode("utf-8", "replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def _info(place: str, nodes: list[dict[str, str]]) -> ServerInfo:
    first = nodes[0]
    product = first.get("server_name", "redis")
    version = first.get(f"{product}_version", first.get("redis_version", "of unknown version"))
    used = sum(int(facts.get("used_memory", 0)) for facts in nodes)
    limit = sum(int(facts.get("maxmemory", 0)) for facts in nodes)
    aof = all(facts.get("aof_enabled") == "1" for facts in nodes)
    text = (
        f"{product} {version} at {place}, {len(nodes)} node{'s' if len(nodes) > 1 else ''}, "
        f"{used / 2**20:.1f} MiB used of {f'{limit / 2**20:.0f} MiB' if limit else 'no limit'}, "
        f"append-only file {'on' if aof else 'off'}"
    )
    return ServerInfo(text, tuple(dict.fromkeys(w for facts in nodes for w in _warnings(facts))))


def _warnings(facts: dict[str, str]) -> list[str]:
    warnings = []
    policy = facts.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        warnings.append(
            f"maxmemory-policy is {policy!r}: under memory pressure the store throws away rows "
            f"and checkpoints; set it to 'noeviction'"
        )
    if facts.get("aof_enabled") == "0":
        warnings.append(
            "the append-only file is off: a restart of the store loses every checkpoint, and "
            "workers rebuild their state from the log; set appendonly to 'yes'"
        )
    if facts.get("role") == "slave":
        warnings.append("this server is a replica and takes no writes; name its primary")
    return warnings
