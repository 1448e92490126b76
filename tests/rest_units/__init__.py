"""Tests of parts of mqsvc.rest, in memory."""
