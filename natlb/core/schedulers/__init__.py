"""Which server gets the next connection: one module for each of HAProxy's ways to decide at layer 4."""
