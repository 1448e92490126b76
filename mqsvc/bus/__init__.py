"""What the processes of a service tell each other; see docs/architecture.rst."""

from mqsvc.bus.signals import Basis, Bus, Callback, Unsubscribe

__all__ = ["Basis", "Bus", "Callback", "Unsubscribe"]
