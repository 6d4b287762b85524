"""The Redis schema, the scripts that change it, and the store that calls them."""
