"""What the adapter does around a step, without a broker: nothing raises, nothing is acked early."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from aiokafka.errors import KafkaTimeoutError
from faust.exceptions import ProducerSendError

from hub import faust_adapter
from hub.errors import Away, BrokerAway, StoreAway
from hub.faust_adapter import (
    EXIT_AWAY,
    EXIT_BUG,
    Handle,
    Sender,
    SingleStep,
    Step,
    add_agent,
    make_app,
)
from hub.topics import OUTCOMES, REQUESTS, LogRecord

SECRET = "999993653"


class Ended(BaseException):
    """In place of the end of the process."""


@pytest.fixture(autouse=True)
def _ends(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(code: int) -> None:
        raise Ended(code)

    monkeypatch.setattr(faust_adapter, "os", SimpleNamespace(_exit=end, fsync=lambda fd: None))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[], float]:
    """Time that passes only while the adapter pauses."""
    now = [0.0]
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        now[0] += seconds
        await real(0)

    monkeypatch.setattr(faust_adapter, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(faust_adapter.asyncio, "sleep", sleep)
    return lambda: now[0]


def record(offset: int, topic: str = REQUESTS) -> LogRecord:
    return LogRecord(topic, 2, offset, b"k", b"v")


class Stream:
    """A Faust stream that hands out given batches; remembers the acks."""

    def __init__(self, *batches: Sequence[int], topic: str = REQUESTS) -> None:
        self._batches = batches
        self._topic = topic
        self.sizes: list[int] = []
        self.acked: list[int] = []

    async def noack_take(self, size: int, within: float) -> AsyncIterator[list[Any]]:
        self.sizes.append(size)
        for batch in self._batches:
            messages = [
                SimpleNamespace(topic=self._topic, partition=2, offset=o, key=b"k", value=None)
                for o in batch
            ]
            yield [SimpleNamespace(message=message) for message in messages]

    async def ack(self, event: Any) -> None:
        self.acked.append(event.message.offset)


class App:
    """The part of faust.App that `add_agent` touches: it keeps the agent's function."""

    conf = SimpleNamespace(id="test")

    def __init__(self) -> None:
        self.agents: dict[str, Any] = {}
        self.options: dict[str, Any] = {}

    def topic(self, name: str, **types: Any) -> str:
        assert types["key_serializer"] == types["value_serializer"] == "raw"
        return name

    def agent(self, topic: str, **options: Any) -> Callable[[Any], None]:
        self.options = options

        def keep(function: Any) -> None:
            self.agents[topic] = function

        return keep


def agent(
    handle: Handle,
    retry_seconds: float = 30.0,
    single: SingleStep | None = None,
    quarantined: list[LogRecord] | None = None,
    topic: str = REQUESTS,
) -> Any:
    """The agent of a step, as Faust would run it; `.acks` counts what came after acks."""

    async def quarantine(one: LogRecord) -> None:
        assert quarantined is not None
        quarantined.append(one)

    app = App()
    step = Step(topic, handle, quarantine, lambda: None)
    add_agent(app, step, retry_seconds, single)  # type: ignore[arg-type]
    assert app.options["concurrency"] == 1
    return app.agents[topic]


async def test_a_batch_is_acked_in_order_once_it_is_handled() -> None:
    stream = Stream([1, 2], [3])
    seen: list[tuple[list[int], list[int]]] = []

    async def handle(batch: Sequence[LogRecord]) -> None:
        assert all(one.value == b"" for one in batch), "a tombstone is read as no bytes"
        seen.append(([one.offset for one in batch], list(stream.acked)))

    await agent(handle)(stream)
    assert seen == [([1, 2], []), ([3], [1, 2])]
    assert stream.acked == [1, 2, 3]
    assert stream.sizes == [faust_adapter.BATCH]


async def test_away_is_tried_again_in_place(clock: Callable[[], float]) -> None:
    stream = Stream([1], [2])
    tries: list[float] = []

    async def handle(batch: Sequence[LogRecord]) -> None:
        tries.append(clock())
        if len(tries) < 6:
            assert stream.acked == []
            raise StoreAway("keys: away")

    await agent(handle)(stream)
    assert [round(at, 1) for at in tries] == [0, 0.1, 0.3, 0.7, 1.5, 3.1, 3.1]
    assert stream.acked == [1, 2]


@pytest.mark.parametrize("error", [StoreAway("keys: away"), BrokerAway("outcomes: no ack")])
async def test_what_stays_away_ends_the_process_with_nothing_acked(
    clock: Callable[[], float], error: Away
) -> None:
    stream = Stream([1], [2])

    async def handle(batch: Sequence[LogRecord]) -> None:
        raise error

    with structlog.testing.capture_logs() as logs, pytest.raises(Ended) as end:
        await agent(handle)(stream)
    assert end.value.args == (EXIT_AWAY,)
    assert 30 <= clock() < 32
    assert stream.acked == []
    assert logs[-1]["event"] == "process_ends"
    assert str(error) in logs[-1]["error"]


async def test_a_bug_ends_the_process_at_once_and_its_log_holds_no_values(
    clock: Callable[[], float],
) -> None:
    stream = Stream([7], [8])

    async def handle(batch: Sequence[LogRecord]) -> None:
        raise KeyError(SECRET)

    with structlog.testing.capture_logs() as logs, pytest.raises(Ended) as end:
        await agent(handle)(stream)
    assert end.value.args == (EXIT_BUG,)
    assert clock() == 0
    assert stream.acked == []
    (said,) = logs
    assert (said["topic"], said["partition"], said["offset"]) == (REQUESTS, 2, 7)
    assert said["error"].startswith("KeyError at test_faust_adapter.py:")
    assert SECRET not in repr(logs)


# --- single step ------------------------------------------------------------------------------


def named(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else None


async def test_single_step_names_each_record_alone_and_only_while_it_is_in_hand(
    tmp_path: Path,
) -> None:
    path = tmp_path / "way" / "in-hand-0.json"
    seen = []

    async def handle(batch: Sequence[LogRecord]) -> None:
        (one,) = batch
        seen.append((one.offset, named(path)))

    stream = Stream([4], [5])
    await agent(handle, single=SingleStep(path, None))(stream)
    assert seen == [(4, [REQUESTS, 2, 4]), (5, [REQUESTS, 2, 5])]
    assert stream.sizes == [1]
    assert named(path) is None


async def test_the_name_stands_when_a_bug_ends_the_process(tmp_path: Path) -> None:
    path = tmp_path / "in-hand-0.json"

    async def handle(batch: Sequence[LogRecord]) -> None:
        raise ZeroDivisionError

    with pytest.raises(Ended):
        await agent(handle, single=SingleStep(path, None))(Stream([4]))
    assert named(path) == [REQUESTS, 2, 4]


async def test_a_record_that_waits_for_something_away_is_not_named(
    tmp_path: Path, clock: Callable[[], float]
) -> None:
    path = tmp_path / "in-hand-0.json"

    async def handle(batch: Sequence[LogRecord]) -> None:
        assert named(path) == [REQUESTS, 2, 4]
        raise BrokerAway("outcomes: no ack")

    with pytest.raises(Ended):
        await agent(handle, single=SingleStep(path, None))(Stream([4]))
    assert named(path) is None


async def test_two_agents_never_have_a_record_in_hand_at_once(tmp_path: Path) -> None:
    path = tmp_path / "in-hand-0.json"
    single = SingleStep(path, None)
    in_hand: list[str] = []
    met = 0

    async def handle(batch: Sequence[LogRecord]) -> None:
        nonlocal met
        in_hand.append(batch[0].topic)
        for _ in range(5):
            await asyncio.sleep(0)
            assert named(path)[0] == batch[0].topic
            met = max(met, len(in_hand))
        in_hand.remove(batch[0].topic)

    await asyncio.gather(
        agent(handle, single=single)(Stream([1], [2], [3])),
        agent(handle, single=single, topic=OUTCOMES)(Stream([1], [2], [3], topic=OUTCOMES)),
    )
    assert met == 1


async def test_the_named_record_is_set_aside_and_the_next_is_handled(tmp_path: Path) -> None:
    handled: list[int] = []
    quarantined: list[LogRecord] = []

    async def handle(batch: Sequence[LogRecord]) -> None:
        handled.append(batch[0].offset)

    stream = Stream([4], [5], [6])
    single = SingleStep(tmp_path / "in-hand-0.json", (REQUESTS, 2, 5))
    await agent(handle, single=single, quarantined=quarantined)(stream)
    assert handled == [4, 6]
    assert [one.offset for one in quarantined] == [5]
    assert stream.acked == [4, 5, 6]


# --- Faust's own parts ------------------------------------------------------------------------


async def _acked() -> None:
    return None


async def _refused() -> None:
    raise KafkaTimeoutError


async def _never() -> None:
    await asyncio.Event().wait()


def _sender(ack: Callable[[], Any], refuse_at_once: bool = False) -> Sender:
    async def send(*_: Any) -> Any:
        if refuse_at_once:
            raise ProducerSendError("not started")
        return ack()

    return Sender(SimpleNamespace(producer=SimpleNamespace(send=send)), 0.01)  # type: ignore[arg-type]


async def test_a_send_is_back_when_it_is_acked() -> None:
    await _sender(_acked)(OUTCOMES, b"k", b"v")


@pytest.mark.parametrize(("ack", "at_once"), [(_refused, False), (_never, False), (_acked, True)])
async def test_a_send_without_an_ack_is_broker_away(ack: Callable[[], Any], at_once: bool) -> None:
    with pytest.raises(BrokerAway, match="outcomes: no ack"):
        await _sender(ack, at_once)(OUTCOMES, b"k", b"v")


def test_the_app_listens_nowhere_and_drops_nothing(tmp_path: Path) -> None:
    app = make_app("hub-way", "127.0.0.1:1,127.0.0.1:2", "hub-way-h-0", tmp_path / "data", 6.0)
    assert [str(url) for url in app.conf.broker] == ["kafka://127.0.0.1:1", "kafka://127.0.0.1:2"]
    assert app.conf.web_enabled is False
    assert app.conf.stream_wait_empty is True
    assert app.conf.stream_publish_on_commit is False
    assert app.conf.agent_supervisor.__name__ == "CrashingSupervisor"
    # faust.md 3.1: else one full topic stops every other.
    twelve = 12 * app.conf.broker_max_poll_records
    assert twelve <= 0.2 * app.conf.stream_buffer_maxsize
