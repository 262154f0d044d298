"""Which GPUs an executor has: given out by its node, so that no two on it ever share one.

The session manager only counts. The node knows which processes are really gone, through every restart
and broken connection of the session manager, and its executors end with it: so an id is free exactly
when nothing that had it is left here, alive or unconfirmed.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence

from flame.model.errors import ResourceExhausted

Key = tuple[str, int]  # executor, incarnation

#: Seconds to wait for the GPUs of processes that are being killed.
PATIENCE = 20.0
_LOOK = 0.05


class Gpus:
    """The GPUs of a node.

    Args:
        known: Returns who may have some: those that are not return theirs.
    """

    def __init__(self, ids: Sequence[str], known: Callable[[], Collection[Key]]) -> None:
        self.ids = tuple(ids)
        self._known = known
        self._taken: dict[Key, tuple[str, ...]] = {}

    async def take(self, key: Key, count: int) -> list[str]:
        """Return so many for an executor, those that come first.

        Raises:
            ResourceExhausted: There are fewer, also after a while.
        """
        if not count:
            return []
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while len(free := self._free()) < count:
            if asyncio.get_running_loop().time() > deadline:
                raise ResourceExhausted(
                    f"{count} GPUs are needed, and {len(free)} of the {len(self.ids)} here are free"
                )
            await asyncio.sleep(_LOOK)
        self._taken[key] = tuple(free[:count])
        return free[:count]

    def _free(self) -> list[str]:
        known = set(self._known())
        self._taken = {key: ids for key, ids in self._taken.items() if key in known}
        taken = {one for ids in self._taken.values() for one in ids}
        return [one for one in self.ids if one not in taken]


def device_variables(gpu_ids: Sequence[str]) -> dict[str, str]:
    """Return variables that show libraries these GPUs, and no others."""
    names = ("FLAME_GPU_IDS", "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
    return dict.fromkeys(names, ",".join(gpu_ids))
