"""The WebSocket API: frames in, frames out, and messages pushed as they come."""
