"""The fast path: packets of established connections are rewritten in the kernel, by a program of ours."""
