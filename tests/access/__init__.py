"""Tests of mqsvc.access."""
