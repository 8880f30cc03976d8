"""What a mistake in the input looks like."""


class UserError(ValueError):
    """A mistake in what the caller gave us.

    The message is one sentence: it names the thing and the remedy. The
    command line prints it without a traceback and exits with code 2.
    """
