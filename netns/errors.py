"""What the lab fails with: the caller does the same with all of it: show the line, clean up, and end with a status."""


class LabError(Exception):
    """The lab cannot go on; the message is one line for the user, that names the remedy where there is one."""

    status = 1
    """What the command that fails with it ends with."""


class NotSeenError(LabError):
    """What was to be judged could not be looked at: it may be right or wrong, and is called neither."""

    status = 3
