"""Settings from flags, environment variables and a TOML file, parsed once into one object.

Flags take precedence over variables (SESSIOND_*), and variables take precedence over the file.
"""

from sessiond_server.settings.addresses import is_local
from sessiond_server.settings.limits import Settings
from sessiond_server.settings.loading import SettingsError, load
from sessiond_server.settings.model import default_data_dir

__all__ = ["Settings", "SettingsError", "default_data_dir", "is_local", "load"]
