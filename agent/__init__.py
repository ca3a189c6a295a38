"""node-agent: finds out, on each node, why an image cannot be pulled, and mends the image cache."""

__version__ = "0.1.0"
