"""An independent comparison that shares no code with the product, to check the product with."""
