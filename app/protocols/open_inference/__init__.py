"""The Open Inference Protocol, version 2: what KServe, Triton and MLServer speak, over HTTP and over gRPC."""
