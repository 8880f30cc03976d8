"""Checks of the chapters' exercises and quizzes."""
