"""Doing the same with each of many items, several at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def for_each(do: Callable[[T], None], items: Iterable[T], threads: int, name: str, failed: threading.Event) -> None:
    """Do it with each item, in so many threads of that name. Raises what the first raises that does.

    None is begun any more then, and `failed` is set, so that those under way may end. Nothing is kept of an item but what is
    done with it: an executor that is given all at once needs more than a kilobyte for each, and there may be millions.
    """
    waiting = iter(items)
    lock = threading.Lock()
    errors: list[BaseException] = []

    def work() -> None:
        while not failed.is_set():
            with lock:
                try:
                    item = next(waiting)
                except StopIteration:
                    return
            try:
                do(item)
            except BaseException as error:
                errors.append(error)
                failed.set()

    with ThreadPoolExecutor(threads, thread_name_prefix=name) as pool:
        for _ in range(threads):
            pool.submit(work)
    if errors:
        raise errors[0]
