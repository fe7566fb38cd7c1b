"""What the platform is, and what can be wrong with it, computed from plain data; knows nothing of Ansible."""
