"""Telling subscribers of messages: what delivers one notification."""
