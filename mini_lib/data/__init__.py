"""The survey's Data perspective: explanations read off from what goes in and what comes out."""
