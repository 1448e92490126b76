"""What the processes of a service tell each other; see docs/architecture.rst."""

from mqsvc.bus.signals import Bus, Callback, Unsubscribe

__all__ = ["Bus", "Callback", "Unsubscribe"]
