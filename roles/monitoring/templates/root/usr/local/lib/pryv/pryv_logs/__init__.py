"""Journals that other hosts have sent here: searched by administrators, and kept for a stated time.

Python's standard library alone, 3.10 and later.
"""
