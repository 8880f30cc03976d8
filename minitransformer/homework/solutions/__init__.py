"""Right answers to the assignments, with which grading tests itself."""
