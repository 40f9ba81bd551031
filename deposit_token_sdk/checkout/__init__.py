"""From an order to a paid order, exactly once, in the shop's own database."""
