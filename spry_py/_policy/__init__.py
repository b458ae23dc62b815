"""What is decided: pure functions and values; time is passed in."""
