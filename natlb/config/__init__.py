"""The configuration: read (`parser`), refused with good reasons (`keywords`), and kept (`model`)."""
