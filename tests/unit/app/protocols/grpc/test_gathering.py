import asyncio

from app.protocols.grpc.gathering import MAX_LONE_GROUPS, TOGETHER_TURNS, Gathering


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def turns_until_done(joined: "asyncio.Future[None]") -> int:
    count = 0
    while not joined.done():
        await asyncio.sleep(0)
        count += 1
    return count


def test_a_call_alone_hardly_waits() -> None:
    async def scenario() -> None:
        gathering = Gathering()
        for _ in range(3):
            assert await turns_until_done(gathering.join()) <= 3

    asyncio.run(scenario())


def test_calls_that_come_one_turn_after_the_other_go_on_together() -> None:
    async def scenario() -> None:
        gathering = Gathering()
        await asyncio.gather(gathering.join(), gathering.join())
        calls = []
        for _ in range(8):
            calls.append(gathering.join())
            await turns(TOGETHER_TURNS // 2)
            assert not calls[0].done()
        await calls[-1]
        assert all(call.done() for call in calls)

    asyncio.run(scenario())


def test_who_has_come_alone_for_a_while_waits_no_more() -> None:
    async def scenario() -> None:
        gathering = Gathering()
        await asyncio.gather(gathering.join(), gathering.join())
        waited = [await turns_until_done(gathering.join()) for _ in range(MAX_LONE_GROUPS + 1)]
        assert min(waited[:MAX_LONE_GROUPS]) >= TOGETHER_TURNS
        assert waited[-1] <= 3

    asyncio.run(scenario())


def test_a_caller_who_gives_up_takes_nobody_along() -> None:
    async def scenario() -> None:
        gathering = Gathering()
        gone, stays = gathering.join(), gathering.join()
        gone.cancel()
        await stays

    asyncio.run(scenario())
