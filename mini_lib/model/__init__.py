"""The survey's Model perspective: explanations by unit of analysis, from tokens to whole architectures."""
