"""What commands can be told: every option declared once, and read back from a run."""
