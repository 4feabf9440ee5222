"""What is left of the local teacher's rate beside a process for each processor: `python -m tests.bench.neighbour`.

Alone and busy rounds alternate; the best of each counts. The model is the embedded one.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from contextlib import aclosing

from datagen.teacher import Request, Sampling
from datagen.teachers.local_gguf import LocalGguf
from warehouse.processors import usable_processors

MODEL, REQUESTS, TOKENS, ROUNDS = "smollm2-135m-instruct", 24, 24, 2


def spin() -> None:
    """Use one processor until it is ended."""
    while True:
        pass


async def ask(teacher: LocalGguf, round_: int) -> float:
    """Replies per minute."""
    requests = [
        Request.of(
            teacher.identity,
            [{"role": "user", "content": f"Tell me of the number {n} in round {round_}."}],
            Sampling(temperature=0.0, max_tokens=TOKENS),
        )
        for n in range(REQUESTS)
    ]
    started = time.perf_counter()
    async with aclosing(teacher.answer(requests)) as replies:
        found = [reply async for reply in replies]
    assert all(reply.error is None for reply in found) and len(found) == REQUESTS
    return 60 * REQUESTS / (time.perf_counter() - started)


def main() -> None:
    """Print both rates and their ratio."""
    teacher = LocalGguf(model=MODEL)
    asyncio.run(ask(teacher, -1))  # the server starts
    alone: list[float] = []
    beside: list[float] = []
    for round_ in range(ROUNDS):
        alone.append(asyncio.run(ask(teacher, 2 * round_)))
        others = [
            multiprocessing.Process(target=spin, daemon=True) for _ in range(usable_processors())
        ]
        for other in others:
            other.start()
        beside.append(asyncio.run(ask(teacher, 2 * round_ + 1)))
        for other in others:
            other.kill()
            other.join()
    teacher.close()
    print(
        f"replies a minute: alone {max(alone):.0f}, beside {usable_processors()} busy processes "
        f"{max(beside):.0f}: {max(beside) / max(alone):.2f} of the rate (to reach 0.33)"
    )


if __name__ == "__main__":
    main()
