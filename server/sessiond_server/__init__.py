"""The sessiond server; docs/code-map.md lists its packages."""
