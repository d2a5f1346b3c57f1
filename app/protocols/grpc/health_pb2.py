"""The messages of ``health.proto``; their types stand in the stub beside."""

from app.protocols.grpc import protos

globals().update(protos.messages_of("health.proto"))
