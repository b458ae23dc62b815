"""What is emitted: spans, metrics and log records about the facts of a tree."""
