"""What single heads and MLPs write, what is lost without them, where they look, and who steps in. One module per question."""
