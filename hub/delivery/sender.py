"""One attempt: from the bytes of a queue record to a verdict."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from hub.configuration import Destination
from hub.connector import (
    Connector,
    Deliverable,
    HttpAnswer,
    HttpRequest,
    MappingError,
    Verdict,
    VerdictKind,
)
from hub.contract import ENVELOPE, Contract
from hub.delivery.http import HttpClient
from hub.errors import ConfigError, Poison
from hub.event import Envelope
from hub.faults import Faults
from hub.keys import KeyStore
from hub.privacy import redact
from hub.telemetry import logger
from hub.topics import QueueName

_TEXT_LENGTH: Final = 200
_CODE_LENGTH: Final = 64
_THREADS: Final = 4


@dataclass(slots=True)
class Line:
    """The way to one destination: its connector and, from the first send on, its client."""

    queue: QueueName
    destination: Destination
    connector: Connector
    client: HttpClient | None = None

    async def close(self) -> None:
        client, self.client = self.client, None
        if client is not None:
            await client.close()


def make_line(
    queue: QueueName, destination: Destination | None, connector: type[Connector] | None
) -> Line:
    """Raises ConfigError with a remedy where this queue cannot be delivered as configured."""
    file = f"destinations/{queue.municipality_code}/{queue.destination}.toml"
    if destination is None:
        raise ConfigError(
            f"{queue}: records wait and no destination is configured; restore {file}, or keep it "
            "until the queue is empty"
        )
    if connector is None:
        raise ConfigError(
            f"{file}: no connector {destination.connector!r} is installed; install its package"
        )
    try:
        made = connector(connector.Config.model_validate(dict(destination.settings)))
    except ConfigError:
        raise
    except Exception as bad:
        # Failure policy: one destination that cannot be made stops no other, whatever it raises.
        # Its text is not told: pydantic quotes the input, which may be a secret.
        raise ConfigError(
            f"{file}: settings cannot be used ({type(bad).__name__}); see hub config check"
        ) from bad
    return Line(queue, destination, made)


class Sender:
    """Opens, maps, sends and classifies. One for all queues of a process."""

    def __init__(self, contract: Contract, keys: KeyStore, faults: Faults) -> None:
        self._contract = contract
        self._keys = keys
        self._faults = faults
        # The key store may have to read SQL: not on the loop.
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="open-parts")

    def decode(self, record: bytes) -> Envelope:
        """The envelope of a queue record. Raises Poison."""
        try:
            return Envelope.from_record(self._contract.decode(record, ENVELOPE).record)
        except (KeyError, TypeError, ValueError) as bad:
            raise Poison(f"an envelope that makes no sense ({type(bad).__name__})") from None

    async def prepare(self, line: Line, envelope: Envelope) -> HttpRequest:
        """The request for this event.

        Raises MappingError (this record cannot be sent: it parks), Erased, or StoreAway (the
        keys cannot be reached: the queue waits, no attempt is burnt).
        """
        if envelope.municipality_code != line.queue.municipality_code:
            # No routing of ours does this. Sent, it would show one municipality's data to another.
            raise MappingError(f"an event of {envelope.municipality_code} on {line.queue}")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._build, line, envelope)

    def _build(self, line: Line, envelope: Envelope) -> HttpRequest:
        try:
            parts = tuple(
                self._contract.decode(
                    self._keys.open(
                        envelope.municipality_code,
                        part.subject_ref,
                        envelope.body_schema,
                        envelope.id,
                        part.ciphertext,
                    )
                ).record
                for part in envelope.parts
            )
        except Poison as bad:
            raise MappingError(_clean(str(bad))) from bad
        try:
            return _request(line.connector.build(Deliverable(envelope, parts)))
        except MappingError as bad:
            raise MappingError(_clean(str(bad))) from None
        except Exception as bug:  # noqa: BLE001 - see the failure policy below
            # Failure policy: a connector's bug on this record parks its lane; the others flow.
            # The text of an unknown exception may quote the record, so only its type is told.
            name = type(bug).__name__
            logger().error("connector_bug", connector=line.destination.connector, error=name)
            raise MappingError(f"the connector failed on this record ({name})") from None

    async def send(
        self,
        line: Line,
        request: HttpRequest,
        envelope: Envelope,
        epoch: int,
        may_send: Callable[[], bool],
    ) -> Verdict | None:
        """One try; None, and nothing sent, if `may_send`, asked last of all, says no."""
        headers = {
            "Idempotency-Key": envelope.id,
            "traceparent": envelope.traceparent,
            "X-Delivery-Epoch": str(epoch),
            "X-Hub-Reference": envelope.reference,
        }
        client = line.client
        if client is None:
            client = line.client = HttpClient(line.destination.limits, on_sent=self._on_sent())
        if not may_send():
            return None
        self._faults.crash("delivery.before_send")
        answer = await client.send(request, headers)
        if isinstance(answer, Verdict):
            return answer
        return self._classify(line, answer)

    def _classify(self, line: Line, answer: HttpAnswer) -> Verdict:
        try:
            verdict = _checked(line.connector.classify(answer), answer.status)
        except Exception as bug:  # noqa: BLE001 - see the failure policy below
            # Failure policy: an answer came and we cannot read it, so it may have taken effect.
            logger().error(
                "connector_bug",
                connector=line.destination.connector,
                status=answer.status,
                error=type(bug).__name__,
            )
            text = "the connector failed on this answer"
            verdict = Verdict(VerdictKind.AMBIGUOUS, "connector_bug", text, status=answer.status)
        if verdict.kind is VerdictKind.DELIVERED:
            self._faults.crash("delivery.after_2xx")
        return verdict

    def _on_sent(self) -> Callable[[], None] | None:
        if not self._faults.plants("delivery.after_send"):
            return None
        return lambda: self._faults.crash("delivery.after_send")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _request(made: object) -> HttpRequest:
    if not isinstance(made, HttpRequest):
        raise TypeError(type(made).__name__)
    return made


def _checked(said: Verdict, status: int) -> Verdict:
    """Raises for what is no verdict: what is wrong in it would end the process further on."""
    wait = None if said.retry_after_seconds is None else float(said.retry_after_seconds)
    code = _clean(said.code)[:_CODE_LENGTH]
    return Verdict(VerdictKind(said.kind), code, _clean(said.text), wait, status)


def _clean(text: str) -> str:
    """What a connector says, fit for `outcomes` and SQL, which a stranger's text may not be."""
    sound = text.encode("utf-8", "replace").decode().replace("\0", "?")
    return redact(sound)[:_TEXT_LENGTH]
