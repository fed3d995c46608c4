"""Changing datasets: quarantine, repair, backups."""
