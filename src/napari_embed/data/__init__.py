"""The bundled sample of real images; see README.md here for source and licence."""
