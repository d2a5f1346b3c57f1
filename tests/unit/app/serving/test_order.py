"""Whose turn it is: fair between clients as soon as more waits than a batch holds."""

import itertools
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from app.serving.jobs import Job
from app.serving.queue import JobQueue
from app.serving.window_queue import WINDOW_BATCHES, WindowQueue
from tests.support.jobs import FOREVER, drain, grid, num_rows_of
from tests.support.ragged import series

clients = st.sampled_from(["greedy", "light", "other"])
requests = st.lists(st.tuples(clients, st.integers(1, 9)), min_size=1, max_size=60)


def job(client: str, rows: int, deadline: float = FOREVER) -> Job:
    return Job(grid(1, 1, rows), rows, deadline=deadline, on_done=lambda _: None, client=client)


def rows_by_client(waiting: "JobQueue | WindowQueue") -> Counter[str]:
    rows: Counter[str] = Counter()
    for each in set(waiting):
        rows[each.client] += each.rows - each.taken_rows
    return rows


@given(plan=requests, max_rows=st.integers(1, 6))
def test_while_two_clients_wait_they_are_served_alike(plan: list[tuple[str, int]], max_rows: int) -> None:
    queue = JobQueue(max_rows=max_rows)
    queue.push(job("first in line", max_rows))  # from here on there are lanes
    for client, rows in plan:
        queue.push(job(client, rows))
    queue.take(0.0)
    served = [Counter[str]()]  # after each batch
    waiting = [rows_by_client(queue)]
    while batch := queue.take(0.0):
        rows = served[-1].copy()
        for part in batch:
            rows[part.job.client] += part.stop - part.start
        served.append(rows)
        waiting.append(rows_by_client(queue))
    for one, other in itertools.combinations(["greedy", "light", "other"], 2):
        both = [index for index, rows in enumerate(waiting) if rows[one] and rows[other]]
        for start, stop in itertools.combinations(both, 2):
            gained = [served[stop][client] - served[start][client] for client in (one, other)]
            assert abs(gained[0] - gained[1]) <= 2 * max_rows  # a piece of each


@given(plan=requests, max_rows=st.integers(1, 6), gone=st.sets(st.integers(0, 59)), sweep=st.booleans())
def test_every_row_is_taken_once_and_each_client_is_served_in_its_order(
    plan: list[tuple[str, int]], max_rows: int, gone: set[int], sweep: bool
) -> None:
    queue = JobQueue(max_rows=max_rows)
    jobs = [job(client, rows) for client, rows in plan]
    for index, waiting in enumerate(jobs):
        queue.push(waiting)
        if index in gone:
            waiting.cancel()
    if sweep:
        queue.drop_answered()
        assert queue.waiting_rows == sum(waiting.rows for waiting in jobs if not waiting.is_done)
    batches = drain(queue)
    taken = Counter(part.job for batch in batches for part in batch for _ in range(part.start, part.stop))
    assert taken == {waiting: waiting.rows for waiting in jobs if not waiting.is_done}
    assert all(num_rows_of(batch) <= max_rows for batch in batches)
    for client in ("greedy", "light", "other"):
        order = [jobs.index(part.job) for batch in batches for part in batch if part.job.client == client]
        firsts = list(dict.fromkeys(order))
        assert firsts == sorted(firsts)


def test_a_light_client_does_not_wait_behind_the_backlog_of_a_greedy_one() -> None:
    queue = JobQueue(max_rows=4)
    for _ in range(400):
        queue.push(job("greedy", 1))
    light = job("light", 1)
    assert queue.rows_ahead("light") == 4 + 1
    assert queue.rows_ahead("greedy") == 400
    queue.push(light)
    batches = drain(queue)
    assert [index for index, batch in enumerate(batches) if any(part.job is light for part in batch)] == [1]


def test_a_client_who_sends_one_large_request_after_the_other_gains_nothing_by_it() -> None:
    queue = JobQueue(max_rows=4)
    for _ in range(100):
        queue.push(job("many small", 1))
    served: Counter[str] = Counter()
    for _ in range(20):
        if not any(waiting.client == "large" for waiting in queue):  # its next comes when the last is answered
            queue.push(job("large", 4))
        for part in queue.take(0.0):
            served[part.job.client] += part.stop - part.start
    assert abs(served["large"] - served["many small"]) <= 12


@given(
    plan=st.lists(st.tuples(clients, st.integers(1, 5), st.booleans()), min_size=1, max_size=80),
    max_rows=st.integers(1, 4),
    limit=st.integers(8, 30),
)
def test_a_client_below_its_fair_share_is_let_into_a_full_queue(
    plan: list[tuple[str, int, bool]], max_rows: int, limit: int
) -> None:
    queue = JobQueue(max_rows=max_rows)
    for client, rows, takes in plan:
        if takes:
            queue.take(0.0)
        held = rows_by_client(queue)
        if queue.waiting_rows + rows > limit:
            if not queue.may_put_out(rows, client, limit):
                # whoever is refused would hold more than an equal part of what is not about to run
                assert held[client] + rows > (limit - max_rows) / (len(held) + 1)
                continue
            before = list(queue)
            out = queue.put_out(rows, client, limit)
            assert out
            assert len(set(out)) == len(out)
            for one in out:  # the newest of its client; and never of whoever holds less
                assert one.client != client or held[client] > rows
                kept = [waiting for waiting in before if waiting.client == one.client and waiting not in out]
                if one.taken_rows:  # unless all others have been run in part too
                    assert all(other.taken_rows for other in kept)
                else:
                    assert all(before.index(one) > before.index(other) for other in kept if not other.taken_rows)
        queue.push(job(client, rows))
        assert queue.waiting_rows <= limit
        assert queue.waiting_rows == sum(rows_by_client(queue).values())
    drain(queue)


def test_a_full_queue_puts_out_the_newest_of_whoever_holds_the_most() -> None:
    queue = JobQueue(max_rows=2)
    queue.push(job("in line", 2))
    greedy = [job("greedy", 1) for _ in range(6)]
    modest = [job("modest", 1) for _ in range(2)]
    for waiting in (*greedy, *modest):
        queue.push(waiting)
    assert not queue.may_put_out(1, "greedy", 10)
    assert queue.may_put_out(2, "new", 10)
    assert not queue.may_put_out(3, "new", 10)
    assert queue.put_out(2, "new", 10) == [greedy[5], greedy[4]]
    assert list(queue)[1:] == [*greedy[:4], *modest]


def test_a_request_that_was_run_in_part_is_put_out_last() -> None:
    queue = JobQueue(max_rows=2)
    queue.push(job("in line", 2))
    large = job("greedy", 6)
    small = [job("greedy", 1) for _ in range(3)]
    for waiting in (large, *small):
        queue.push(waiting)
    queue.take(0.0)
    assert [part.job for part in queue.take(0.0)] == [large]
    assert list(queue) == [*small, large]
    assert queue.put_out(1, "new", 7) == [small[2]]
    assert list(queue) == [*small[:2], large]
    assert queue.put_out(4, "new", 6) == [small[1], small[0], large]
    assert (queue.waiting_rows, list(queue)) == (0, [])


def test_many_clients_who_came_and_went_are_forgotten() -> None:
    queue = JobQueue(max_rows=1)
    queue.push(job("", 1))
    queue.push(job("steady", 500))
    for index in range(1000):
        queue.push(job(f"client {index}", 1))
        queue.take(0.0)
        queue.take(0.0)
    assert len(queue._lanes) < 200


def test_who_comes_back_while_ever_more_new_clients_come_waits_behind_those_who_are_there_and_nobody_else() -> None:
    queue = JobQueue(max_rows=1)
    queue.push(job("in line", 1))
    returning, takes, turns = job("returning", 1), 0, 0
    queue.push(returning)
    most = queue.waiting_rows  # takes until it is served
    for index in range(3000):
        for twin in "ab":
            queue.push(job(f"client {index}{twin}", 1))
        (part,) = queue.take(0.0)
        takes += 1
        assert takes <= most
        if part.job is returning:
            returning, takes, turns = job("returning", 1), 0, turns + 1
            assert queue.rows_ahead("returning") == queue.waiting_rows
            queue.push(returning)
            most = queue.waiting_rows
    assert turns > 5


def test_who_came_once_is_forgotten_while_new_clients_never_cease() -> None:
    queue = JobQueue(max_rows=1)
    for index in range(100):
        queue.push(job(f"first {index}", 1))
    looks, lanes = 0, queue._lanes
    for index in range(5000):
        queue.push(job(f"client {index}", 1))
        queue.take(0.0)
        assert len(queue._lanes) <= 4 * queue.waiting_rows
        looks, lanes = looks + (queue._lanes is not lanes), queue._lanes
    assert looks <= 5000 / 100  # each looks at all


def test_clients_are_served_alike_where_rows_have_lengths_too() -> None:
    queue = WindowQueue(max_rows=4, max_elements=100)
    for index in range(400):
        rows = series([5 + index % 20])
        queue.push(Job(rows, 1, deadline=FOREVER, on_done=lambda _: None, client="greedy"))
    for index in range(20):
        rows = series([5 + index % 20])
        queue.push(Job(rows, 1, deadline=FOREVER, on_done=lambda _: None, client="light"))
    served: Counter[str] = Counter()
    batches = 0
    while served["light"] < 20:
        for part in queue.take(0.0):
            served[part.job.client] += 1
        batches += 1
    # the line and the window, four batches, were there before; then the two take turns
    assert served["greedy"] <= 20 + 2 * (4 + 4 * 4)


def test_the_line_holds_no_more_rows_than_a_batch_of_the_longest() -> None:
    queue = WindowQueue(max_rows=32, max_elements=1000)
    lengths = [300] * 33
    for length in lengths:
        rows = series([length])
        queue.push(Job(rows, 1, deadline=FOREVER, on_done=lambda _: None, client="greedy"))
    assert queue.rows_ahead("light") <= 3 + 1
    queue.push(Job(series([2000]), 1, deadline=FOREVER, on_done=lambda _: None, client="greedy"))
    assert queue.sure_rows == 1


def test_a_light_client_waits_for_few_batches_of_long_rows() -> None:
    queue = WindowQueue(max_rows=32, max_elements=1024)
    for _ in range(400):
        queue.push(Job(series([300]), 1, deadline=FOREVER, on_done=lambda _: None, client="greedy"))
    queue.take(0.0)  # and the window is full
    light = Job(series([300]), 1, deadline=FOREVER, on_done=lambda _: None, client="light")
    queue.push(light)
    batches = 0
    while not light.taken_rows:
        queue.take(0.0)
        batches += 1
    while any(piece.job is light for piece in queue._window):
        queue.take(0.0)
        batches += 1
    assert batches <= WINDOW_BATCHES + 3
