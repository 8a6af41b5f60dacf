"""Moving conversations between stores, and from those of other packages."""
