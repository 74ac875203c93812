"""The toolkit of plugins: elastic instances, node removal, isolation, machine types, prices."""
