"""Tests of mqsvc.bus."""
