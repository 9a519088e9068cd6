"""Where a packet's time goes: a sampling profiler that is part of natlb, and costs nothing while it is off.

stages       the stages of a packet's way, and the marks in the source that say where each begins
checkpoints  marks made into places where a sample can be taken, while the profiler is on
sampler      looks at which stage natlb is in, some hundred times in a second of work
profile      what was seen, added up, and the table that is made of it
profiler     all of that, for a natlb that runs
burst        the engine alone, under a load of its own: what `natlb where` runs, without root
"""
