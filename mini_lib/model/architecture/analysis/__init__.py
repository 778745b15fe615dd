"""Explanations of a given architecture: what of its input an output rests on."""
