"""How packages are found, called and guarded."""
