"""The one exception a user is meant to read.

Everything that goes wrong because of what was typed, mounted or downloaded is raised as `UserError`, whose text names the
field or file, the value found and what to do about it. The command line prints that text alone; any other exception is a
defect of this library and keeps its traceback.
"""


class UserError(Exception):
    """A mistake the user can mend. The message is one clear statement: what, which value, and the remedy."""
