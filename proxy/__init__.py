"""The engine of Claude Proxy: accounts, balancing, relay, storage. It knows no HTTP server and no dashboard."""

__version__ = "0.1.0"
