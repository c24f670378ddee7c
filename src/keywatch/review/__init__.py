"""A window's review: cases, what people say of them, and the alerts that follow."""
