"""Judges what an audit collected: what passed, what failed, what is accepted, and whether the bars are reached."""
