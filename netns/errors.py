"""What the lab fails with: one class, since the caller does the same with all of it: show the line and clean up."""


class LabError(Exception):
    """The lab cannot go on; the message is one line for the user, that names the remedy where there is one."""
