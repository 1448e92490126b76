"""Tests of mqsvc.wire."""
