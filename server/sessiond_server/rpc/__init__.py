"""The wire: protos in, protos out. Every call passes through calls.py; every error through errors.py."""
