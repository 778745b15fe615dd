"""What passes between image tokens and words: by attention, and by cutting it. One module per question asked."""
