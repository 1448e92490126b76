"""Tests of mqsvc.storage."""
