"""The service: count how many random points of the unit square lie in the unit circle."""

import json
import random

import flame


def hits(seed: int, points: int) -> int:
    """How many of ``points`` points fall inside; the same for the same seed, everywhere."""
    uniform = random.Random(seed).random
    return sum(1 for _ in range(points) if uniform() ** 2 + uniform() ** 2 <= 1.0)


class PiService(flame.FlameService):
    """Takes ``{"seed": 7, "points": 10000}``, answers ``{"hits": 7854}``."""

    def on_task_invoke(self, context: flame.TaskContext) -> bytes:
        work = json.loads(context.input or b"{}")
        return json.dumps({"hits": hits(work["seed"], work["points"])}).encode()


if __name__ == "__main__":
    flame.run_service(PiService())
