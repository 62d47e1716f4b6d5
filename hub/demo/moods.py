"""How a demo back-office behaves when told to: works, slow, hang, refuse, fail, drop, crash."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class Mood(StrEnum):
    """What `POST /control` may ask for."""

    WORKS = "works"
    SLOW = "slow"
    """Each request takes `delay_seconds` before it takes effect."""
    HANG = "hang"
    """Nothing is answered for `seconds`; what came in meanwhile takes effect afterwards."""
    REFUSE = "refuse"
    """The listener is closed for `seconds`: connection refused, open connections reset."""
    FAIL = "fail"
    """500 for `seconds`, without effect."""
    DROP = "drop"
    """With `probability` the answer is lost after the effect."""
    CRASH = "crash"
    """SIGKILL of itself."""


class Command(BaseModel):
    """Body of `POST /control`. Without `seconds` a mood lasts until the next command."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mood: Mood
    seconds: float | None = Field(default=None, gt=0)
    delay_seconds: float = Field(default=1.0, ge=0)
    probability: float = Field(default=0.05, ge=0, le=1)
