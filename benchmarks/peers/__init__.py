"""Other quantizers and vector searches, each in an environment of its own, measured beside our bundles."""
