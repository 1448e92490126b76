"""Stores on real servers, which these tests start for themselves."""
