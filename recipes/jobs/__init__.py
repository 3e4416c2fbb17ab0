"""jobs: what a verb does, once its recipe is read."""
