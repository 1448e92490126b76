"""Tests of mqsvc.rest."""
