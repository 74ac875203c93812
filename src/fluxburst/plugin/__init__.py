"""What a package implements to supply bursts."""
