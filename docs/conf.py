"""How Sphinx builds the documentation: uv run sphinx-build -W -b html docs build/docs.

The build needs no network. `extensions/command_reference.py` writes the reference of the command
line from the options classes. Notebooks are executed, and must run without an error.
"""

import sys
from pathlib import Path

from transferkit import __version__

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "transferkit"
author = "The transferkit authors"
copyright = "The transferkit authors, Apache-2.0"
version = release = __version__

extensions = ["myst_nb", "command_reference"]
exclude_patterns = ["extensions", "**/runs"]
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # else pages load scripts from elsewhere
myst_heading_anchors = 3

html_theme = "furo"
html_title = "transferkit"
html_static_path = ["_static"]
html_css_files = ["transferkit.css"]
html_copy_source = False
html_show_sphinx = False
