"""Which tokens there are, and which of them may be offered to whom. A guard rail, and no legal advice."""
