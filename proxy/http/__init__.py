"""The HTTP that crosses the proxy: headers, request targets, bodies, content encodings, addresses."""
