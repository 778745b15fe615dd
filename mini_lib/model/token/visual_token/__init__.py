"""Visual tokens: what single image tokens say, and what goes when they go. One module per method."""
