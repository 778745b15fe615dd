"""Cross-modal embedding: how far the states of pictures and of words lie apart, and what they share. One module per method."""
