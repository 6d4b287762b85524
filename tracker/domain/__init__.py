"""Operations, their lifecycle, their policies and the registry of their types. No Redis, no HTTP, no asyncio."""
