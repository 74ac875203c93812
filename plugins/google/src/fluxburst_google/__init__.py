"""What fluxburst's plugins for Google Cloud share: credentials, errors, machine types, prices."""
