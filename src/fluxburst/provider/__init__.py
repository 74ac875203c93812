"""Toolkit for plugins: elastic instances, node removal, isolation, machine types, prices."""
