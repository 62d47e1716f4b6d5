"""The effects that write results down, each with its token and what goes on once it is durable."""

from collections.abc import Callable

from hub.delivery.effects import (
    CloseCommand,
    Command,
    DeleteRow,
    InsertRow,
    MarkRow,
    Publish,
    Row,
    Send,
)
from hub.delivery.lanes import Delivery, LogRecord, ParkedRow, Result
from hub.delivery.outbox import Outbox

Then = Callable[[], None]


class Writer:
    """Every write to the store carries `epoch`; the store refuses an older one (F2)."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self.epoch = 0

    def send(self, ticket: int, hand: Delivery) -> None:
        source = hand.source
        parked = isinstance(source, ParkedRow)
        self._outbox.put(
            Send(
                ticket,
                source.event_id,
                source.offset,
                parked,
                source.lane,
                hand.attempt,
                self.epoch,
            )
        )

    def tell(self, source: LogRecord | ParkedRow, result: Result, attempt: int) -> None:
        """News in `outcomes` that nothing waits for, of a lane's delivery in hand.

        Failure policy: given up when the result is being written, for then the bytes are soon
        gone. It costs a line of the status page, while Kafka was away.
        """
        if source.usable:
            self._outbox.tell(self._publish(source, result, attempt), lambda: source.in_hand)

    def publish(self, source: LogRecord | ParkedRow, attempt: int, then: Then) -> None:
        """The source's result in `outcomes`; what is not usable has no reference to tell."""
        if source.usable:
            self._outbox.begin(self._publish(source, source.result, attempt), then)
        else:
            then()

    def _publish(self, source: LogRecord | ParkedRow, result: Result, attempt: int) -> Publish:
        return Publish(
            self._outbox.number(),
            result.kind,
            source.event_id,
            source.offset,
            isinstance(source, ParkedRow),
            attempt,
            result.reason,
            result.code,
            result.text,
            result.status,
        )

    def insert(self, record: LogRecord, then: Then) -> None:
        result = record.result
        row = Row(
            record.event_id,
            record.offset,
            record.lane,
            result.reason,
            record.attempt,
            record.usable,
            result.code,
        )
        token = self._outbox.number()
        self._outbox.begin(
            InsertRow(token, self.epoch, row, result.code, result.text, result.status), then
        )

    def delete(self, row: ParkedRow, then: Then) -> None:
        token = self._outbox.number()
        self._outbox.begin(DeleteRow(token, self.epoch, row.event_id, tuple(row.commands)), then)

    def mark(self, row: ParkedRow, attempt: int, then: Then) -> None:
        result = row.result
        assert result.reason is not None
        self._outbox.begin(
            MarkRow(
                self._outbox.number(),
                self.epoch,
                row.event_id,
                result.reason,
                attempt,
                tuple(row.commands),
                result.code,
                result.text,
                result.status,
            ),
            then,
        )

    def refuse(self, command: Command, refusal: str) -> None:
        token = self._outbox.number()
        self._outbox.begin(
            CloseCommand(token, self.epoch, command.command_id, refusal), _nothing_waits
        )


def _nothing_waits() -> None:
    """Of a refusal, only the operator takes note."""
