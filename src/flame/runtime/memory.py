"""Give memory back to the system after a peak."""

import ctypes

#: A peak of fewer items is not worth a look at the heap.
WORTHWHILE = 50_000


class Trimmer:
    """Notices that much was held and no longer is, and has the C library return free pages.

    glibc keeps what was freed for later use; after a million queued tasks that is most of the
    process. Where the C library has no ``malloc_trim`` nothing is done.
    """

    def __init__(self) -> None:
        self._peak = 0
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)

    def note(self, held: int) -> bool:
        """Say how many items are held now; returns whether memory was returned for it."""
        if held >= self._peak:
            self._peak = held
            return False
        if self._peak < WORTHWHILE or held * 4 > self._peak:
            return False
        self._peak = held
        if self._trim is not None:
            self._trim(0)
        return self._trim is not None
