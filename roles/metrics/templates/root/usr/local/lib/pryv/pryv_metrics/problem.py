"""What keeps a collector from telling anything."""


class CollectorError(Exception):
    """Something cannot be looked at; the message says what, and holds no secret and no user's name."""
