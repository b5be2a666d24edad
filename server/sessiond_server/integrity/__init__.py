"""Whether what is stored is whole."""
