"""Tests of mqsvc.workers."""
