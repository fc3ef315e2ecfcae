"""HTTP and WebSocket: parse, call one verb of the engine, answer."""
