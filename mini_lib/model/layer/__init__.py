"""What layers and their parts do. One folder or module for each leaf of the survey's tree."""
