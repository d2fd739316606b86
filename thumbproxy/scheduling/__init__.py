"""Who may do work that takes long, who waits for it, and doing a thing once."""
