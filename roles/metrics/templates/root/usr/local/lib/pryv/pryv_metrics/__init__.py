"""What a host tells of itself, for Prometheus and, where there is none, by mail.

Nothing here names a person, or holds a key of one: not in labels, not in messages.
"""
