"""``python -m fluxburst``."""

from fluxburst.cli import main

main()
