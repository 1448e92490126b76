"""What delivers one notification."""
