import os
import signal
import time

from wsi_mil.doctor import PRELOAD  # the server of forks is one for all tests
from wsi_mil.runtime.process_pool import WorkerFailure, map_isolated


def work(order: str) -> str:
    """Do as told."""
    if order == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if order == "out of memory":
        os.kill(os.getpid(), signal.SIGKILL)
    if order == "leave":
        os._exit(3)
    if order == "hang":
        time.sleep(6000)
    if order == "raise":
        raise ValueError("two\nlines")
    return order.upper()


def test_a_crash_affects_its_own_item_only() -> None:
    orders = ["a", "crash", "b", "out of memory", "leave", "raise", "c"]
    found = dict(map_isolated(work, orders, processes=2, seconds=60, preload=PRELOAD))
    assert {order: found[order] for order in "abc"} == {"a": "A", "b": "B", "c": "C"}
    assert found["crash"] == WorkerFailure("its process was killed by SIGSEGV")
    assert found["out of memory"] == WorkerFailure("its process was killed by SIGKILL (the system does so when memory runs out)")
    assert found["leave"] == WorkerFailure("its process ended with code 3") and found["raise"] == WorkerFailure(
        "ValueError: two lines"
    )


def test_an_item_that_hangs_is_killed() -> None:
    found = dict(map_isolated(work, ["hang", "a"], processes=2, seconds=10, preload=PRELOAD))
    assert found == {"hang": WorkerFailure("took longer than 10 s"), "a": "A"}


def test_no_more_processes_run_than_allowed() -> None:
    spans = [span for _, span in map_isolated(span_of, [0.2] * 5, processes=2, seconds=60, preload=PRELOAD)]
    for start, _ in spans:
        assert sum(begin <= start < end for begin, end in spans) <= 2


def span_of(seconds: float) -> tuple[float, float]:
    start = time.monotonic()
    time.sleep(seconds)
    return start, time.monotonic()


def test_no_items_give_no_results() -> None:
    assert list(map_isolated(work, [], processes=2, seconds=1, preload=PRELOAD)) == []
