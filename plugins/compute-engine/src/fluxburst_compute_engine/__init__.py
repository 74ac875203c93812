"""fluxburst onto virtual machines of Google's Compute Engine."""
