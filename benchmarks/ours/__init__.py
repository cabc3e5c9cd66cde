"""gradwire as it is measured: the engine in its process, and the service from a client's side."""
