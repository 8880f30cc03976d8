"""Checks for the book's exercises: is the answer right, and if not, why?"""

from minitransformer.homework.checking import Verdict, check

__all__ = ["Verdict", "check"]
