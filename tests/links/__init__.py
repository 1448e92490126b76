"""Tests of mqsvc.links."""
