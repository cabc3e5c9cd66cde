"""Operators as functions and methods, generated from their schemas."""
