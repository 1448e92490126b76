"""The stores on real servers, which these tests start: scripts/test tests.on_servers."""
