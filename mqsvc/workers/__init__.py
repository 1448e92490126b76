"""Several processes that serve as one: a supervisor, and the workers it keeps running.

The supervisor binds the sockets and serves nothing. Each worker is a whole service on
the same sockets and stores. docs/architecture.rst shows how they work together.
"""
