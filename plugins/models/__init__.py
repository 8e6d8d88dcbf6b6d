"""Bundled models, one module per paper or group of related papers."""
