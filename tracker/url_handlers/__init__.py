"""Handlers that are URLs: the request, its response, its signature."""
