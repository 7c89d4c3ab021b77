"""Logs of other tools, as traffic: one file each, streaming, nothing dropped silently."""
