"""Descriptions of the API: OpenAPI, OData metadata (CSDL) and a page for people."""
