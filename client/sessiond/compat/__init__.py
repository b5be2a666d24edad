"""Other libraries' spelling, over sessiond's client: for programs that are moved to sessiond by changing their imports."""
