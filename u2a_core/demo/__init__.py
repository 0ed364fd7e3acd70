"""The embedded scenario: its world, how it is built, and the demo that runs on it."""
