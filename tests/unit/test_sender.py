"""What a connector of others may do wrong, and that it stops nobody else."""

from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from hub.configuration import Destination, Limits
from hub.connector import Deliverable, HttpAnswer, HttpRequest, Kind, Verdict, VerdictKind
from hub.contract import Contract
from hub.delivery.sender import Line, Sender, make_line
from hub.errors import ConfigError
from hub.faults import NONE
from hub.topics import QueueName

QUEUE = QueueName("GM0001", "a")
DESTINATION = Destination(QUEUE, "theirs", Kind.KEY, {}, Limits())


class Nothing(BaseModel):
    """No settings."""


class Theirs:
    """A connector whose author did not read the contract."""

    Config: ClassVar[type[BaseModel]] = Nothing
    said: Any = None

    def __init__(self, config: Any) -> None:
        pass

    def build(self, event: Deliverable) -> HttpRequest:
        raise NotImplementedError

    def classify(self, answer: HttpAnswer) -> Verdict:
        found: Verdict = self.said
        return found


@pytest.mark.parametrize(
    "said",
    [
        None,
        201,
        Verdict("maybe"),  # type: ignore[arg-type]
        Verdict(VerdictKind.DELIVERED, code=None),  # type: ignore[arg-type]
        Verdict(VerdictKind.DELIVERED, text=b"ok"),  # type: ignore[arg-type]
        Verdict(VerdictKind.THROTTLED, retry_after_seconds="soon"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_verdict_may_have_taken_effect(contract: Contract, said: Any) -> None:
    """And ends no process: the other queues go on."""
    connector = Theirs(None)
    connector.said = said
    keys: Any = None
    sender = Sender(contract, keys, NONE)
    verdict = sender._classify(Line(QUEUE, DESTINATION, connector), HttpAnswer(200, {}, b""))
    assert verdict.kind is VerdictKind.AMBIGUOUS
    assert verdict.code == "connector_bug"
    sender.close()


def test_a_kind_written_as_text_is_that_kind(contract: Contract) -> None:
    connector = Theirs(None)
    connector.said = Verdict("delivered")  # type: ignore[arg-type]
    keys: Any = None
    sender = Sender(contract, keys, NONE)
    verdict = sender._classify(Line(QUEUE, DESTINATION, connector), HttpAnswer(200, {}, b""))
    assert verdict.kind is VerdictKind.DELIVERED
    sender.close()


def test_what_a_verdict_says_fits_outcomes_and_sql(contract: Contract) -> None:
    connector = Theirs(None)
    connector.said = Verdict(VerdictKind.REJECTED, "x" * 99, "y" * 999, 1, "422")  # type: ignore[arg-type]
    keys: Any = None
    sender = Sender(contract, keys, NONE)
    verdict = sender._classify(Line(QUEUE, DESTINATION, connector), HttpAnswer(422, {}, b""))
    assert verdict == Verdict(VerdictKind.REJECTED, "x" * 64, "y" * 200, 1.0, 422)
    sender.close()


@pytest.mark.parametrize("error", [ValueError("s3cret"), KeyError("s3cret"), OSError("s3cret")])
def test_a_connector_that_cannot_be_made_waits_for_a_person(error: Exception) -> None:
    """It must not take down the claims of the queues that were told with it."""

    class Broken(Theirs):
        def __init__(self, config: Any) -> None:
            raise error

    with pytest.raises(ConfigError, match=r"destinations/GM0001/a\.toml") as said:
        make_line(QUEUE, DESTINATION, Broken)
    assert type(error).__name__ in str(said.value)
    assert "s3cret" not in str(said.value)
