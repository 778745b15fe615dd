"""What single sequence positions carry, visual or mixed."""
