"""The messages on the wire.

They live in a pool of their own: clients of this protocol register the same names in protobuf's common one, and a
process may hold both. So nothing is generated but the description of the protos and the stubs, which say the types;
``make protos`` writes both.
"""

from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

PACKAGE = "app/protocols/grpc"
# every proto of this folder, as protoc describes them
DESCRIPTORS = Path(__file__).with_name("protos.binpb")


def _read() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file:
        pool.Add(file)  # type: ignore[no-untyped-call]  # the stubs leave it so
    return pool


_POOL = _read()


def messages_of(proto: str) -> dict[str, type[Message]]:
    """Return the classes of the messages of one proto by their names, those inside other messages left out."""
    file = _POOL.FindFileByName(f"{PACKAGE}/{proto}")  # type: ignore[no-untyped-call]
    return {
        name: message_factory.GetMessageClass(descriptor)
        for name, descriptor in file.message_types_by_name.items()
    }  # fmt: skip
