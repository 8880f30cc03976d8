"""What judges submissions from outside the walls, and writes the grades."""
