"""What is written: frozen values, refused where they are wrong."""
