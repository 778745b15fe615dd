"""Visual embedding: probes that read the vectors of the image side, and heads named by words. One module per method."""
