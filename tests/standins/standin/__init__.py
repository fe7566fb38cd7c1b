"""Programs that stand in for Pryv.io's services in tests.

They listen on the real ports, read the real configuration files at the real paths and refuse what the real programs
could not use. Only the standard library and PyYAML are needed, so that their image is small.
"""
