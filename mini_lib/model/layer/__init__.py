"""What whole blocks, heads and MLPs do, and how information passes from layer to layer."""
