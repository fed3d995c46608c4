"""Changes of datasets: quarantine, repair, snapshots."""
