"""What runs: the life of one child, the loop of one supervisor, and the tree."""
