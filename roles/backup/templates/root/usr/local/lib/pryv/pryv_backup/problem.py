"""What goes wrong in a way that an operator can do something about."""


class BackupError(Exception):
    """Something is not as it should be; the message says what, and holds no secret."""


class StoppedError(BackupError):
    """The program was told to end."""
