"""One straight-line function a command, and the options of each."""
