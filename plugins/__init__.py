"""The bundled models, each module a plugin like anybody's: found through the entry-point group ``zoo``."""
