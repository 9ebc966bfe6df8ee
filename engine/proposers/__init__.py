"""Where proposals come from: one Protocol, one file each."""
