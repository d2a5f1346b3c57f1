"""Names and numbers on the wire are the protocol's, since whoever speaks it has no others."""

import subprocess
import sys

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, FileDescriptor

from app.protocols.grpc import health_pb2, inference_pb2, model_config_pb2, protos

# of what Triton's clients know: no model here has any of it, or the call is answered without reading its message
LEFT_OUT = {
    "BatchInput", "BatchOutput", "ModelEnsembling", "ModelMetrics", "ModelOperations", "ModelOptimizationPolicy",
    "ModelRateLimiter", "ModelRepositoryAgents", "ModelSequenceBatching", "ModelWarmup",
    "ModelInstanceGroup.SecondaryDevice",
    *(f"{kind}SharedMemory{call}" for kind in ("System", "Cuda") for call in (
        "RegisterRequest", "RegisterResponse", "StatusRequest", "StatusResponse", "UnregisterRequest",
        "UnregisterResponse",
    )),
    "LogSettingsRequest", "LogSettingsResponse", "TraceSettingRequest", "TraceSettingResponse",
}  # fmt: skip
LEFT_OUT_FIELDS = {
    "ModelConfig": {
        "batch_input", "batch_output", "optimization", "sequence_batching", "ensemble_scheduling", "model_warmup",
        "model_operations", "model_repository_agents", "model_metrics",
    },
    "ModelInstanceGroup": {"rate_limiter", "secondary_devices"},
}  # fmt: skip
LEFT_OUT_CALLS = {
    *(f"{kind}SharedMemory{call}" for kind in ("System", "Cuda") for call in ("Register", "Status", "Unregister")),
    "LogSettings", "TraceSetting",
}  # fmt: skip


def field(found: FieldDescriptor) -> tuple[object, ...]:
    of = found.message_type or found.enum_type
    # a field of the specification's generated client is `optional`: the same on the wire
    oneof = found.containing_oneof
    group = oneof.name if oneof is not None and not oneof.name.startswith("_") else None
    return found.number, found.type, found.is_repeated, of.full_name if of is not None else None, group


def message(found: Descriptor) -> dict[str, tuple[object, ...]]:
    return {each.name: field(each) for each in found.fields}


def every_message(file: FileDescriptor) -> dict[str, Descriptor]:
    waiting = list(file.message_types_by_name.values())
    found = {}
    while waiting:
        each = waiting.pop()
        found[each.full_name.removeprefix(f"{file.package}.")] = each
        waiting += each.nested_types
    return found


def every_enum(file: FileDescriptor) -> dict[str, EnumDescriptor]:
    enums = [*file.enum_types_by_name.values()]
    enums += [enum for each in every_message(file).values() for enum in each.enum_types]
    return {enum.full_name: enum for enum in enums}


def ours(module: object) -> FileDescriptor:
    return next(iter(vars(module)[name] for name in vars(module) if hasattr(vars(module)[name], "DESCRIPTOR"))
                ).DESCRIPTOR.file  # fmt: skip


def is_among(name: str, messages: set[str]) -> bool:
    return any(f"{name}.".startswith(f"{other}.") for other in messages)


def expect_same(own: FileDescriptor, theirs: FileDescriptor, *, left_out: set[str]) -> None:
    """Hold each message of theirs against ours, but for those that are left out with all that is inside them."""
    mine = every_message(own)
    compared = 0
    for name, other in every_message(theirs).items():
        if is_among(name, left_out):
            assert name not in mine, f"{name} is there, and said to be left out"
            continue
        wanted = {
            key: value for key, value in message(other).items() if key not in LEFT_OUT_FIELDS.get(name, set())
        }  # fmt: skip
        have = message(mine[name])
        assert {key: have.get(key) for key in wanted} == wanted, name
        compared += 1
    assert compared > 10
    enums = every_enum(own)
    for name, enum in every_enum(theirs).items():
        if not is_among(name.removeprefix("inference."), left_out):
            assert enums[name].values_by_name.keys() == enum.values_by_name.keys()
            assert {v.name: v.number for v in enums[name].values} == {v.name: v.number for v in enum.values}


def calls(file: FileDescriptor) -> dict[str, tuple[object, ...]]:
    service = file.services_by_name["GRPCInferenceService"]
    return {
        call.name: (call.input_type.full_name, call.output_type.full_name, call.client_streaming, call.server_streaming)
        for call in service.methods
    }


# both register the same names in protobuf's common pool, so each has a process of its own
BEGIN = f"""
import importlib, sys
sys.path.insert(0, {str(protos.DESCRIPTORS.parents[3])!r})
here = importlib.import_module("tests.unit.app.protocols.grpc.test_protos")
inference, config = here.ours(here.inference_pb2), here.ours(here.model_config_pb2)
"""
AGAINST_THE_SPECIFICATION = """
theirs = importlib.import_module("open_inference.grpc.protocol").DESCRIPTOR
here.expect_same(inference, theirs, left_out=set())
assert here.calls(theirs).items() <= here.calls(inference).items()
"""
AGAINST_TRITON = """
theirs = importlib.import_module("tritonclient.grpc.service_pb2").DESCRIPTOR
here.expect_same(inference, theirs, left_out=here.LEFT_OUT)
others = importlib.import_module("tritonclient.grpc.model_config_pb2").DESCRIPTOR
here.expect_same(config, others, left_out=here.LEFT_OUT)
theirs, mine = here.calls(theirs), here.calls(inference)
assert theirs.keys() - mine.keys() == here.LEFT_OUT_CALLS, theirs.keys() ^ mine.keys()
assert {name: theirs[name] for name in mine} == mine
"""


@pytest.mark.parametrize("script", [AGAINST_THE_SPECIFICATION, AGAINST_TRITON], ids=["specification", "triton"])
def test_messages_are_those_of_other_clients(script: str) -> None:
    done = subprocess.run([sys.executable, "-c", BEGIN + script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_process_may_hold_other_clients_of_the_protocol() -> None:
    script = (
        "from app.protocols.grpc import inference_pb2 as ours\n"
        "from tritonclient.grpc import service_pb2 as theirs\n"
        "sent = ours.ModelReadyRequest(name='cnn').SerializeToString()\n"
        "assert theirs.ModelReadyRequest.FromString(sent).name == 'cnn'\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_stubs_know_every_message() -> None:
    for module in (health_pb2, inference_pb2, model_config_pb2):
        stub = protos.DESCRIPTORS.with_name(f"{module.__name__.rpartition('.')[2]}.pyi").read_text()
        for name in ours(module).message_types_by_name:
            assert f"class {name}(" in stub


def test_health_is_asked_for_as_everywhere() -> None:
    file = ours(health_pb2)
    assert file.package == "grpc.health.v1"
    assert [call.name for call in file.services_by_name["Health"].methods] == ["Check", "Watch"]
    assert message(file.message_types_by_name["HealthCheckRequest"])["service"][0] == 1
    assert message(file.message_types_by_name["HealthCheckResponse"])["status"][0] == 1
    statuses = file.message_types_by_name["HealthCheckResponse"].enum_types_by_name["ServingStatus"]
    names = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
    assert {value.name: value.number for value in statuses.values} == {name: i for i, name in enumerate(names)}
