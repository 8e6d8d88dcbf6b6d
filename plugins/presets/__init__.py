"""Presets of the bundled models: settings of published experiments, with their sources and remaining differences."""
