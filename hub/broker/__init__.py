"""The one seam to Kafka: which cluster, producing, consumer settings, topics, our own Kafka.

`hub.broker.local` (our own Kafka), `.memory` (librdkafka's mock) and `.containers` are imported
where they are used: they cost what no worker needs.
"""

from hub.broker.admin import Admin, ClusterProblem
from hub.broker.choice import bootstrap
from hub.broker.clients import consumer_config, murmur2, partition_of
from hub.broker.endpoint import Endpoint
from hub.broker.producer import Ack, Producer

__all__ = [
    "Ack",
    "Admin",
    "ClusterProblem",
    "Endpoint",
    "Producer",
    "bootstrap",
    "consumer_config",
    "murmur2",
    "partition_of",
]
