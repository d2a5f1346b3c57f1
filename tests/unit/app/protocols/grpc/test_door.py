from pathlib import Path

import grpc
import pytest

from app.access.roles import Role
from app.admission import Admission, Ticket
from app.metrics import Metrics
from app.observer import Observer
from app.outlet import Outlet
from app.protocols.grpc.door import INFER, SERVICE, Context, Door
from app.protocols.grpc.inference_pb2 import ModelInferRequest
from app.request_log import RequestLog
from app.settings import Settings
from tests.support.keys import make_key

pytestmark = pytest.mark.anyio

GOOD = ModelInferRequest(model_name="dummy", id="of-a-friend").SerializeToString()


async def test_what_is_not_let_in_is_counted_at_its_door_and_its_payload_told_to_nobody(tmp_path: Path) -> None:
    key = make_key(tmp_path / "keys.json", "app", "predict")
    metrics, path = Metrics(), tmp_path / "log"
    with path.open("wb") as file:
        log = RequestLog(Outlet(file.fileno()), is_json=True, payload_share=1.0)
        settings = Settings(api_keys_file=tmp_path / "keys.json")
        door = Door(Admission(settings, metrics, observer=Observer(log, None)), settings, metrics)

        async def answer(ticket: Ticket, message: ModelInferRequest, context: Context) -> bytes:
            return message.id.encode()

        handler = door.unary(ModelInferRequest, answer, Role.PREDICT)
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {INFER: handler}),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary(f"/{SERVICE}/{INFER}")
            with pytest.raises(grpc.RpcError):
                await call(b"of a stranger", timeout=30)
            told = (("x-api-key", key),)
            with pytest.raises(grpc.RpcError):
                await call(b"\xff\xff", timeout=30, metadata=told)
            assert await call(GOOD, timeout=30, metadata=told) == b"of-a-friend"
        await server.stop(None)
        log.close()
    assert metrics.requests == {
        ("grpc", "", "", "UNAUTHENTICATED"): 1,
        ("grpc", "", "", "INVALID_ARGUMENT"): 1,
        ("grpc", "", "", "OK"): 1,
    }
    assert "of-a-friend" in path.read_text()
    assert "stranger" not in path.read_text()
    lines = [line for line in path.read_text().splitlines() if '"event":"request"' in line]
    assert len(lines) == 3
    assert all('"door":"grpc"' in line for line in lines)
