"""A broker in memory: librdkafka's mock cluster, for fast tests and `--memory`.

Nothing survives this process. Other processes can connect while it lives.
"""

import ctypes
from collections.abc import Iterable, Sequence
from enum import StrEnum
from types import TracebackType
from typing import Any, Final, Self

import confluent_kafka.cimpl

from hub.errors import BrokerAway, ConfigError
from hub.telemetry import logger
from hub.topics import TopicSpec


class Lack(StrEnum):
    """What a MemoryBroker does not do and a Kafka does. `tests/conformance` holds a test of each,
    so that a librdkafka that learns it is noticed."""

    DURABILITY = "records and offsets end with the process"
    ADMIN = "kafka-python cannot connect: no Admin; topics by MemoryBroker.ensure_topics"
    STRICT_TOPICS = "a topic that nobody made appears, with four partitions, when it is used"
    TOPIC_CONFIG = "no retention, no LogAppendTime: a record carries its producer's time"
    TRIMMING = "no DeleteRecords over the wire; MemoryBroker.delete_records in this process"
    LONG_POLL = "a fetch is answered after its whole wait: use `consumer_over` in consumers"
    METADATA_LIMIT = "commit metadata of any length is taken; Kafka takes 4,095 bytes"
    CAPACITY = "5 MiB per partition, the oldest records go first"


_PRODUCER: Final = 0
_PRODUCE_KEY: Final = 0
_ERROR_BYTES: Final = 512


class MemoryBroker:
    """Context manager around a mock cluster that listens on 127.0.0.1.

    `consumer_over` are settings that each consumer of it needs (`consumer_config(..., **over)`).
    """

    consumer_over: Final[dict[str, Any]] = {"fetch.wait.max.ms": 10}

    def __init__(self, brokers: int = 1) -> None:
        self._count = brokers
        self._client: int | None = None
        self._cluster: int | None = None
        self._partitions: dict[str, int] = {}

    def __enter__(self) -> Self:
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        settings = _lib.rd_kafka_conf_new()
        # It would warn that it has no cluster to connect to; it is one.
        _lib.rd_kafka_conf_set(settings, b"log_level", b"0", error, _ERROR_BYTES)
        self._client = _lib.rd_kafka_new(_PRODUCER, settings, error, _ERROR_BYTES)
        if not self._client:
            raise BrokerAway(f"librdkafka: {error.value.decode()}")
        self._cluster = _lib.rd_kafka_mock_cluster_new(self._client, self._count)
        if not self._cluster:
            raise BrokerAway("librdkafka made no mock cluster; is 127.0.0.1 there?")
        # As our own Kafka: a group of tests must not wait 3 s for members that never come.
        _lib.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)
        logger().warning("memory_broker", remedy="nothing survives this process")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Everything in it is gone. Close its clients first, or they log refused connections."""
        if self._cluster:
            _lib.rd_kafka_mock_cluster_destroy(self._cluster)
            self._cluster = None
        if self._client:
            _lib.rd_kafka_destroy(self._client)
            self._client = None

    @property
    def bootstrap(self) -> str:
        """`host:port,...`, new for each instance."""
        listed: bytes = _lib.rd_kafka_mock_cluster_bootstraps(self._open())
        return listed.decode()

    def ensure_topics(self, specs: Iterable[TopicSpec]) -> list[str]:
        """As Admin.ensure_topics, without the configuration. Make topics before they are used."""
        created = []
        for spec in specs:
            known = self._partitions.setdefault(spec.name, spec.partitions)
            if known != spec.partitions:
                raise ConfigError(f"{spec.name}: has {known} partitions, wanted {spec.partitions}")
            copies = min(self._count, 3)
            cluster, name = self._open(), spec.name.encode()
            if _lib.rd_kafka_mock_topic_create(cluster, name, spec.partitions, copies) == 0:
                created.append(spec.name)
        return created

    def delete_records(self, topic: str, partition: int, before_offset: int) -> int:
        """As Admin.delete_records: the new log start."""
        cluster, name = self._open(), topic.encode()
        _lib.rd_kafka_mock_partition_delete_records(cluster, name, partition, before_offset)
        return before_offset

    def set_down(self, broker: int = 0) -> None:
        """Refuse and drop connections to `broker` (from 0); its records stay."""
        _lib.rd_kafka_mock_broker_set_down(self._open(), broker + 1)

    def set_up(self, broker: int = 0) -> None:
        _lib.rd_kafka_mock_broker_set_up(self._open(), broker + 1)

    def fail_produces(self, codes: Sequence[int]) -> None:
        """Answer the next produce requests with these Kafka error codes, one each, unwritten."""
        array = (ctypes.c_int * len(codes))(*codes)
        _lib.rd_kafka_mock_push_request_errors_array(
            self._open(), _PRODUCE_KEY, len(codes), ctypes.byref(array)
        )

    def _open(self) -> int:
        if self._cluster is None:
            raise BrokerAway("this MemoryBroker is closed, and its records are gone")
        return self._cluster


def _bind() -> ctypes.CDLL:
    """The librdkafka that confluent-kafka's extension is linked with, whatever its file is."""
    lib = ctypes.CDLL(confluent_kafka.cimpl.__file__)
    pointer, text, size, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int32
    signatures: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "rd_kafka_conf_new": (pointer, ()),
        "rd_kafka_conf_set": (ctypes.c_int, (pointer, text, text, text, size)),
        "rd_kafka_new": (pointer, (ctypes.c_int, pointer, text, size)),
        "rd_kafka_destroy": (None, (pointer,)),
        "rd_kafka_mock_cluster_new": (pointer, (pointer, ctypes.c_int)),
        "rd_kafka_mock_cluster_destroy": (None, (pointer,)),
        "rd_kafka_mock_cluster_bootstraps": (text, (pointer,)),
        "rd_kafka_mock_topic_create": (
            ctypes.c_int,
            (pointer, text, ctypes.c_int, ctypes.c_int),
        ),
        "rd_kafka_mock_partition_delete_records": (
            ctypes.c_int,
            (pointer, text, number, ctypes.c_int64),
        ),
        "rd_kafka_mock_group_initial_rebalance_delay_ms": (None, (pointer, number)),
        "rd_kafka_mock_broker_set_down": (ctypes.c_int, (pointer, number)),
        "rd_kafka_mock_broker_set_up": (ctypes.c_int, (pointer, number)),
        "rd_kafka_mock_push_request_errors_array": (
            None,
            (pointer, ctypes.c_int16, size, pointer),
        ),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


_lib: Final = _bind()
