"""What runs inside the walls, in one process with a learner's code."""
