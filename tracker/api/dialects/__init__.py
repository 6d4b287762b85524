"""The same operations in other APIs' words."""
