"""The asyncio face of ``flame``: the same names, to be awaited."""

from flame.sdk.aio import AsyncClient, AsyncFuture, AsyncSession, connect

__all__ = ["AsyncClient", "AsyncFuture", "AsyncSession", "connect"]
