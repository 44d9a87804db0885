"""What a bench shows: medians, tables, charts, and the bound in a sentence."""
