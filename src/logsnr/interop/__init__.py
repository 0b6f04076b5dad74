"""Other programs' checkpoints: one file a format, each a map of names and a check that the network is the same."""
