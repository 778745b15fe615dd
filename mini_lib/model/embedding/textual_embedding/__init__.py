"""Textual embedding: what the vectors of words know of the world, alone and with a picture in context. One module per method."""
