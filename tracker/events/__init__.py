"""The feed of changes, its subscriber, and the hub that hands events to those who wait or follow."""
