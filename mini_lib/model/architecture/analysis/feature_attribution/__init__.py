"""Feature attribution: how much of the answer each patch and each word brings. One module per method."""
