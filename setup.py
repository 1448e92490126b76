"""Everything about the distribution is in pyproject.toml."""

from setuptools import setup

setup()
