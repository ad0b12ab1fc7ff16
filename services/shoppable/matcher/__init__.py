"""The product matcher: owns the catalogues and finds their products in pictures of things."""
