"""What outlives natlb: its connections in a file, for the next one to go on with.

draft      what was made of a file so far, in an engine
layout     what stands in the file: bytes to records and back, pure
place      which boot, namespace and queue this is
recorder   keeps the file up to date while an engine runs
retired    what goes on although the configuration has it no more
statefile  the file: found, read, replaced, kept or ended
tables     what stick tables hold, as bytes and back, pure
"""
