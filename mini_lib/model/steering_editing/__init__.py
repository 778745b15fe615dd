"""Changes made on purpose, and what else they change: a vector added to the stream, a fact written into a weight. One module per method."""
