"""What an operator runs beside the service: ``mqsvc export`` and ``mqsvc import``."""
