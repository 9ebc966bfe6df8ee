"""What is read off running shards: tailing and parsing of metrics."""
