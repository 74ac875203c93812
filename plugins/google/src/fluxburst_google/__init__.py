"""Shared by fluxburst's plugins for Google Cloud: credentials, errors, machine types, prices."""
