"""The Open Inference Protocol over gRPC: the extra ``grpc``, on a port of its own, imported only where that is set."""
