"""Tests of mqsvc.messaging."""
