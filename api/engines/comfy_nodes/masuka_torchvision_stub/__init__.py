"""Adds no nodes; its prestartup script does the work."""

NODE_CLASS_MAPPINGS: dict[str, type] = {}
