"""Who is who on a platform and who talks to whom, derived from the inventory alone.

No host is asked and no fact is used: one dead host or ``--limit`` never changes the answer.
"""
