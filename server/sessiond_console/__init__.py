"""The web console of sessiond: pages on which people read, follow and change sessions.

The console is a client like any other: it imports the package `sessiond`, but no module of the
server. It runs in a process of its own (`sessiond console`), and therefore also works with a remote
server.

`sessiond_console.app.create_app` makes the ASGI application.
"""
