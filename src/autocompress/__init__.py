"""autocompress: search for the best compressed network that fits a latency budget on an ARM device."""

__version__ = "0.1.0"
