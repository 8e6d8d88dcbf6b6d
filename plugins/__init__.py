"""Bundled models and network families, found through the entry-point group ``zoo`` like any third-party plugin."""
