"""The WebSocket API over real sockets."""
