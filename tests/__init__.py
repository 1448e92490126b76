"""Tests of mqsvc."""
