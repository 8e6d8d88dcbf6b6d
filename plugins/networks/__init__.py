"""Bundled network families: the architectures published with the models, selectable by ``--family``."""
