"""Checks of everything stored, and backups."""
