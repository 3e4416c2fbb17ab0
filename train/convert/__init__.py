"""convert: a training checkpoint in the form of others, proved before it gets its name."""
