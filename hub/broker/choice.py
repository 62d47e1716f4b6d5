"""Which Kafka this installation speaks to."""

from hub.broker.endpoint import endpoint_file, read_endpoint
from hub.errors import ConfigError
from hub.settings import Settings


def bootstrap(settings: Settings) -> str:
    """`host:port,...`: HUB_KAFKA if set, else our own Kafka of this HUB_HOME, running or not."""
    if settings.kafka:
        return settings.kafka
    own = read_endpoint(endpoint_file(settings.home))
    if own is not None:
        return own.bootstrap
    raise ConfigError(
        "no Kafka: set HUB_KAFKA to host:port,... of a cluster, or run `hub kafka start`, which "
        f"writes {endpoint_file(settings.home)}"
    )
