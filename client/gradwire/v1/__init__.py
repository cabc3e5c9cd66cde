"""The wire contract in Python, generated from proto/gradwire/v1."""
