"""Small untrained models of the families people use, each of its true classes, to prove its grid rule and run every method on it."""
