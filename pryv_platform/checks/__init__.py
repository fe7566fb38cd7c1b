"""What a role, or the whole platform, can find wrong before a host is touched; one file each."""
