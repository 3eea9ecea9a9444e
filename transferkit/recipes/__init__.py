"""One function per command, written as a straight line of steps."""
