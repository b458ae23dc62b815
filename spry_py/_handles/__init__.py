"""What is seen of a tree from outside."""
