"""Keys: the file of the hub's own keys, and a keyset per subject per tenant beside it.

Forgetting a person is deleting one keyset: whatever was sealed under it is noise from then on, in
Kafka, in backups, in logs.
"""

from hub.keys.file import KeyFile
from hub.keys.subjects import METADATA, KeyStore, SubjectKind

__all__ = ["METADATA", "KeyFile", "KeyStore", "SubjectKind"]
