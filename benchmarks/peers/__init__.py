"""What gradwire is compared with. Each module runs in a process of an environment of its own."""
