"""Repair, verification and diagnosis of stored operations."""
