"""The messages of ``model_config.proto``; their types stand in the stub beside."""

from app.protocols.grpc import protos

globals().update(protos.messages_of("model_config.proto"))
