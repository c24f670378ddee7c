"""Detection quality: Keywatch beside what others would do, on the same made worlds."""
