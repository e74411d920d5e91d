"""The one exception that reaches a user.

Every folder raises `UserError` for bad input: its message is one sentence that says what is wrong and one
that says what to do. The command line prints the message alone and exits with code 2.
"""

from __future__ import annotations


class UserError(Exception):
    """Bad input, with a message that tells the user what to do about it."""
