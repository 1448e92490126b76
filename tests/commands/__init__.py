"""Tests of the commands of ``mqsvc``."""
