"""Dialects: the same operations under the paths and in the forms of other APIs."""
