"""What the tests of all checks ask: is it right, or wrong for this reason?"""

from minitransformer.homework import check


def passes(name, answer):
    """Assert that an answer is judged to be right."""
    verdict = check(name, answer)
    assert verdict, verdict.message
    return True


def fails(name, answer, phrase):
    """Assert that an answer is judged to be wrong, for the reason given."""
    verdict = check(name, answer)
    assert not verdict
    assert verdict.message.startswith("Not yet: ")
    assert phrase in verdict.message, verdict.message
    return True
