"""What `thumbproxy doctor` looks at, before it hurts."""
