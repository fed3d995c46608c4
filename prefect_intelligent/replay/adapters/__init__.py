"""Files of a replay: recordings and HTML reports."""
