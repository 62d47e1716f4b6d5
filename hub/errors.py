"""Every error of the hub, and what it asks of whoever catches it.

HubError
├── Problem               the caller's data; nothing was done, sending it unchanged cannot work
│   ├── ConfigError       stop: a person must change the configuration; names file, line, remedy
│   ├── Poison            quarantine: bytes that cannot be decoded or validated
│   └── Refused           quarantine, or 4xx at a door: understood, and not allowed or not routable
├── Away                  retry: something we need is not there now; acknowledge nothing
│   ├── StoreAway         a database or key store
│   └── BrokerAway        Kafka
├── Erased                finish as `erased`: the subject's key was deleted on request
└── Fenced                drop everything: another owner has taken over

Text of an error holds ids and remedies, never a BSN, a name or a secret.
"""

from dataclasses import dataclass


class HubError(Exception):
    """Base of all errors that the hub raises on purpose."""


class Problem(HubError):
    """The input is at fault; a repeat of the same input gives the same answer."""


class ConfigError(Problem):
    """Configuration that cannot be used. The text names file, line and remedy."""


class Poison(Problem):
    """Bytes that cannot be decoded or validated; they go to quarantine."""


@dataclass(frozen=True, slots=True)
class InvalidField:
    """One reason for a refusal, as NL API Design Rules list it under `invalidParams`.

    `name` is a JSON path in the words of the caller (`gegevens.nieuwAdres.postcode`), `reason` is
    Dutch and never repeats the value, `code` is stable.
    """

    name: str
    code: str
    reason: str


class Refused(Problem):
    """Understood and refused. `code` is stable; `fields` says what is wrong, all at once."""

    def __init__(
        self,
        code: str,
        detail: str,
        fields: tuple[InvalidField, ...] = (),
        candidates: tuple[str, ...] = (),
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.fields = fields
        self.candidates = candidates


class Away(HubError):
    """Something outside is not there now. Failure policy: acknowledge nothing, try again."""


class StoreAway(Away):
    """A database or the key store does not answer."""


class BrokerAway(Away):
    """Kafka does not take or confirm a record in time."""


class Erased(HubError):
    """The key of this subject was deleted on request; its data can never be read again."""


class Fenced(HubError):
    """Another owner holds a newer epoch. Failure policy: write nothing more, drop everything."""
