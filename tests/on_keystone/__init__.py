"""Tests with a real Keystone, which all of them share."""
