"""`make demo`: a bank, a shop, and one purchase between them, on this machine."""
