"""Backups of a core or a registry: taken at one instant, kept by restic, known to restore.

Runs on hosts, as root, with the standard library alone. What it copies belongs to containers, so no name below the
data is believed: folders and files are opened one after the other, and no symbolic link is followed.
"""
