"""Text to value and back: units, host lists, FLUIDs, processes; only the standard library."""
