"""What crosses the proxy: header names, request targets, bodies, content encodings, addresses."""
