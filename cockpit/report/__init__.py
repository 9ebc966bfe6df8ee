"""A campaign as one HTML page, for those who use no terminal: rows in, text out. No network, no script, everything escaped."""
