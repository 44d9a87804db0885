"""Label forms: annotation files that hold shapes instead of pixels; one file a form."""
