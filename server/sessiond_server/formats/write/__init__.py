"""Creates the requests that the providers' APIs accept."""
