"""Tests of mqsvc.integration."""
