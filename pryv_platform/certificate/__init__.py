"""The platform's wildcard certificate."""
